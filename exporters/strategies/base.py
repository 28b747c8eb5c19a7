"""StrategyExporter: turns the checkpoints of a strategy into modules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from torch import nn

from ptgc.errors import ExportError, UsageError
from ptgc.exporters.checkpoint.checkpoint import Checkpoint, open_checkpoint
from ptgc.spec.options import checkpoints_of
from ptgc.spec.plan import DecodePlan
from ptgc.spec.strategies.base import CheckpointFacts, Strategy

Note = Callable[[str], None]
"""Called with remarks for the user."""


@dataclass(frozen=True)
class Sources:
    """The checkpoints of one export, opened but not loaded."""

    model: Checkpoint
    """The checkpoint to export."""
    strategy: Strategy
    """How the bundle generates."""
    options: Any
    """The strategy's options, checked."""
    others: Mapping[str, Checkpoint] = field(default_factory=dict)
    """The checkpoints named by options, by option."""

    def plan(self, tokenizer: Any | None) -> DecodePlan:
        """The plan that the options describe.

        Raises:
            ExportError: The checkpoint lacks what the strategy needs.
        """
        assert self.strategy.plan is not None
        return self.strategy.plan(self.options, exporter_of(self.strategy).facts(self, tokenizer))


class StrategyExporter(ABC):
    """Turns checkpoints into the modules of a strategy."""

    @abstractmethod
    def fits(self, checkpoint: Checkpoint) -> bool:
        """Whether this checkpoint can generate by the strategy."""

    def open_others(self, options: Any, *, trust_remote_code: bool) -> dict[str, Checkpoint]:
        """The checkpoints named by the options, opened and checked.

        Raises:
            CheckpointError: See `open_checkpoint`.
            ExportError: One does not fit the strategy.
        """
        named = checkpoints_of(options)
        return {name: open_checkpoint(one, trust_remote_code=trust_remote_code) for name, one in named.items()}

    def settle(self, sources: Sources, progress: Note, note: Note) -> Sources:  # noqa: ARG002
        """The sources with what only the weights can settle of the options; plan and modules are made from these."""
        return sources

    @abstractmethod
    def modules(self, sources: Sources, note: Note) -> dict[str, nn.Module]:
        """The PyTorch modules by role."""

    def facts(self, sources: Sources, tokenizer: Any | None) -> CheckpointFacts:  # noqa: ARG002
        """What the strategy's plan needs to know about the checkpoints.

        Raises:
            CheckpointError: A checkpoint does not say.
        """
        return CheckpointFacts(mask_token_id=getattr(tokenizer, "mask_token_id", None))

    def drafter_tokenizer(self, sources: Sources) -> Any | None:  # noqa: ARG002
        """The drafter's own tokenizer, if it has one."""
        return None


def exporter_of(strategy: Strategy) -> StrategyExporter:
    """The exporter of a strategy.

    Raises:
        UsageError: The strategy is not exported from checkpoints.
        ExportError: It cannot be imported.
    """
    if not strategy.exporter or strategy.plan is None:
        raise UsageError(
            f"Strategy '{strategy.name}' has no checkpoint format that ptgc export reads: export its PyTorch modules, "
            "with ptgc.exporters.export."
        )
    module, _, name = strategy.exporter.partition(":")
    try:
        found: StrategyExporter = getattr(import_module(module), name)
    except Exception as error:
        raise ExportError(
            f"The exporter of strategy '{strategy.name}', {strategy.exporter}, cannot be imported: "
            f"{type(error).__name__}: {error}.",
            "Repair the package that it is in.",
        ) from error
    return found
