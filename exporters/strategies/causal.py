"""Strategies that decode token by token with drafts that need no model: the checkpoint is the target."""

from __future__ import annotations

from torch import nn

from ptgc.exporters.checkpoint.checkpoint import Checkpoint
from ptgc.exporters.checkpoint.task import Task
from ptgc.exporters.own_code import check_causal
from ptgc.exporters.strategies.base import Note, Sources, StrategyExporter


class CausalExporter(StrategyExporter):
    """Causal language models, and encoder-decoders with their encoder."""

    def fits(self, checkpoint: Checkpoint) -> bool:
        """Whether it has a decoder that writes token by token."""
        return checkpoint.task in (Task.CAUSAL_LM, Task.SEQ2SEQ_LM)

    def modules(self, sources: Sources, note: Note) -> dict[str, nn.Module]:
        """The target, and its encoder if it has one."""
        module = sources.model.load_model(note=note)
        if sources.model.has_own_code:
            check_causal(module)
        names = ("target", "encoder") if sources.model.task is Task.SEQ2SEQ_LM else ("target",)
        return dict.fromkeys(names, module)


class TappedExporter(CausalExporter):
    """The same with a drafter that reads the target's hidden states."""

    def fits(self, checkpoint: Checkpoint) -> bool:
        """Whether it is a causal language model; no drafter reads the states of an encoder-decoder."""
        return checkpoint.task is Task.CAUSAL_LM


EXPORTER = CausalExporter()
