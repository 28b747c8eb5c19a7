"""Which exporter traces which role of which loop, and the roles of a plan."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import entry_points
from math import isfinite
from typing import cast

import onnx_ir as ir
import torch
from torch import nn

from ptgc.errors import ExportError
from ptgc.spec.attention import AttentionKind
from ptgc.spec.canvas import PolicyKind
from ptgc.spec.kv_cache import LayerState
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan
from ptgc.spec.ports import Port
from ptgc.spec.role import Role
from ptgc.spec.role_ports import roles_of

POLICY = "policy"
"""Beside the roles: an unmasking policy of one's own."""
ENTRY_POINTS = "ptgc.exporters"
"""Entry points of other packages: `LOOP.ROLE = "module:exporter"`, an exporter for the modules that it recognises."""


@dataclass(frozen=True)
class TracedRole:
    """The graph of one role; its weights are still in PyTorch's memory."""

    model: ir.Model
    """The canonical graph."""
    inputs: tuple[Port, ...]
    """Input ports, without states."""
    outputs: tuple[Port, ...]
    """Output ports, without states."""
    states: tuple[LayerState, ...] = ()
    """The KV cache by layer."""
    cross_states: tuple[LayerState, ...] = ()
    """The keys and values of an encoder's output, by layer."""
    attention: AttentionKind | None = None
    """What the rows of a round may see of each other; None if there is no mask."""
    mask_extra: int = 0
    """Slots that the mask covers besides the round's own."""

    def role(self, graph: str, context_length: int | None = None) -> Role:
        """The role's entry in the manifest.

        Args:
            graph: File of the graph, relative to the manifest.
            context_length: The model's context, if it differs from the bundle's.
        """
        return Role(
            graph=graph,
            inputs=self.inputs,
            outputs=self.outputs,
            states=self.states,
            cross_states=self.cross_states,
            context_length=context_length,
            attention=self.attention,
            mask_extra=self.mask_extra,
        )


@dataclass(frozen=True)
class RoleSource:
    """What a role is traced from."""

    name: str
    """The role."""
    module: nn.Module
    """The PyTorch module, in eval mode."""
    plan: DecodePlan
    """The plan that the role is for."""
    modules: Mapping[str, nn.Module] = field(default_factory=dict)
    """Those of all roles: a target's graph has what a drafter makes of its states."""
    traced: Mapping[str, TracedRole] = field(default_factory=dict)
    """The roles traced before it; an encoder comes before the roles that read its output."""

    @property
    def kind(self) -> str:
        """The role that it is traced as: all drafters of which one is chosen are like the first."""
        return "drafter" if self.name in self.plan.drafter.alternatives else self.name

    @property
    def attention(self) -> AttentionKind:
        """What the rows of a round may see of each other, in a model that verifies or drafts."""
        return AttentionKind.CAUSAL if self.plan.tree.is_chain else AttentionKind.TREE


RoleExporter = Callable[[RoleSource], TracedRole | None]
"""Traces a module; returns None for modules that this exporter does not know."""

_BUILT_IN = {
    (Loop.SPECULATIVE, "encoder"): "ptgc.exporters.roles.encoder_decoder:export_encoder",
    (Loop.SPECULATIVE, "target"): "ptgc.exporters.roles.encoder_decoder:export_target",
    (Loop.SPECULATIVE, "drafter"): "ptgc.exporters.roles.draft_model:export_drafter",
    (Loop.SPECULATIVE, "heads"): "ptgc.exporters.roles.heads:export_heads",
    (Loop.CANVAS, "denoiser"): "ptgc.exporters.roles.denoiser:export_denoiser",
    (Loop.ONE_SHOT, "encoder"): "ptgc.exporters.roles.one_shot:export_encoder",
    (Loop.ONE_SHOT, "decoder"): "ptgc.exporters.roles.one_shot:export_decoder",
    (Loop.EDIT, "encoder"): "ptgc.exporters.roles.one_shot:export_encoder",
    (Loop.EDIT, "deleter"): "ptgc.exporters.roles.edit:export_deleter",
    (Loop.EDIT, "inserter"): "ptgc.exporters.roles.edit:export_inserter",
    (Loop.EDIT, "filler"): "ptgc.exporters.roles.edit:export_filler",
    (Loop.EDIT, "token_inserter"): "ptgc.exporters.roles.edit:export_token_inserter",
}


def check_roles(plan: DecodePlan, given: Sequence[str]) -> tuple[str, ...]:
    """The roles of a plan, in the order in which they are traced.

    A policy of one's own must be given beside them; it becomes a part of the denoiser.

    Raises:
        ExportError: One is missing, or the plan does not use one that was given.
    """
    known = tuple(roles_of(plan, has_encoder="encoder" in given))
    takes_policy = plan.canvas is not None and plan.canvas.policy.kind is PolicyKind.OWN
    if plan.canvas is not None and takes_policy is not (POLICY in given):
        raise ExportError(
            f"A policy is {'not ' if takes_policy else ''}given; the plan's is {plan.canvas.policy.kind.value}.",
            "Give a module, export({'denoiser': ..., 'policy': ...}, ...), to a plan with PolicyKind.OWN, and only so.",
        )
    if set(known) != set(given) - {POLICY}:
        needed = ", ".join(f"'{role}'" for role in known)
        raise ExportError(
            f"Strategy '{plan.strategy}' has the roles {needed}; given: {', '.join(sorted(given)) or 'none'}.",
            "Give one module for each of them: export(roles={NAME: MODULE, ...}, ...).",
        )
    return known


def check_weights(name: str, module: nn.Module) -> None:
    """Look for NaN and infinity in a role's parameters.

    Raises:
        ExportError: There are some; the first such parameter is named.
    """
    for path, parameter in module.named_parameters():
        # One pass without a copy: where the sum is finite, every value is.
        if not parameter.is_floating_point() or isfinite(float(parameter.detach().sum(dtype=torch.float32))):
            continue
        bad = int(parameter.numel() - torch.isfinite(parameter).sum())  # none where large values overflow the sum
        if bad:
            raise ExportError(
                f"Parameter {path} of the {name} holds {bad} values that are NaN or infinite.",
                "The checkpoint is damaged, or training diverged: take another one.",
            )


def trace_role(source: RoleSource) -> TracedRole:
    """Trace a module with the first exporter that knows it: those of other packages, then the built-in one.

    Raises:
        ExportError: No exporter knows it, or it cannot become a standard graph.
    """
    key = f"{source.plan.loop.value}.{source.kind}"
    for entry in sorted(entry_points(group=ENTRY_POINTS, name=key), key=lambda entry: entry.value):
        traced = cast("RoleExporter", entry.load())(source)
        if traced is not None:
            return traced
    module, _, function = _BUILT_IN.get((source.plan.loop, source.kind), "").partition(":")
    traced = cast("RoleExporter", getattr(import_module(module), function))(source) if module else None
    if traced is None:
        raise ExportError(
            f"No exporter knows how {type(source.module).__name__} can be the role '{source.name}'.",
            "docs/adding-a-model.md says what a module must look like.",
        )
    return traced
