"""StrategyExporter: what reads the checkpoints of a strategy."""

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
"""Called with what a user should know."""


@dataclass(frozen=True)
class Sources:
    """The checkpoints of one export, opened but not loaded."""

    model: Checkpoint
    """What is exported."""
    strategy: Strategy
    """How the bundle generates."""
    options: Any
    """The strategy's, checked."""
    others: Mapping[str, Checkpoint] = field(default_factory=dict)
    """The checkpoints that the options name, by option."""

    def plan(self, tokenizer: Any | None) -> DecodePlan:
        """The loop that the options describe.

        Raises:
            ExportError: The checkpoint lacks what the strategy needs.
        """
        assert self.strategy.plan is not None
        return self.strategy.plan(self.options, CheckpointFacts(getattr(tokenizer, "mask_token_id", None)))


class StrategyExporter(ABC):
    """What a strategy makes of checkpoints."""

    @abstractmethod
    def fits(self, checkpoint: Checkpoint) -> bool:
        """Whether such a checkpoint can generate so."""

    def open_others(self, options: Any, *, trust_remote_code: bool) -> dict[str, Checkpoint]:
        """The checkpoints that options name, opened and checked.

        Raises:
            CheckpointError: See `open_checkpoint`.
            ExportError: One cannot be what the strategy needs.
        """
        named = checkpoints_of(options)
        return {name: open_checkpoint(one, trust_remote_code=trust_remote_code) for name, one in named.items()}

    @abstractmethod
    def modules(self, sources: Sources, note: Note) -> dict[str, nn.Module]:
        """The PyTorch modules by role."""

    def drafter_tokenizer(self, sources: Sources) -> Any | None:  # noqa: ARG002
        """The drafter's own tokenizer, where it has one."""
        return None


def exporter_of(strategy: Strategy) -> StrategyExporter:
    """What reads a strategy's checkpoints.

    Raises:
        UsageError: It has no checkpoint format.
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
