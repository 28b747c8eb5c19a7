"""draft-model: the drafter is a second checkpoint."""

from __future__ import annotations

from typing import Any

from torch import nn

from ptgc.errors import ExportError
from ptgc.exporters.checkpoint.checkpoint import Checkpoint
from ptgc.exporters.checkpoint.task import Task
from ptgc.exporters.strategies.base import Note, Sources
from ptgc.exporters.strategies.causal import CausalExporter


class DraftModelExporter(CausalExporter):
    """A target, and a causal language model that drafts for it."""

    def open_others(self, options: Any, *, trust_remote_code: bool) -> dict[str, Checkpoint]:
        """The drafter, which must be a causal language model."""
        others = super().open_others(options, trust_remote_code=trust_remote_code)
        drafter = others["drafter"]
        if drafter.task is not Task.CAUSAL_LM:
            raise ExportError(
                f"'{drafter.source}' is a {drafter.task.value}; a drafter is a {Task.CAUSAL_LM.value}.",
                "Choose a smaller model of the target's family.",
            )
        return others

    def modules(self, sources: Sources, note: Note) -> dict[str, nn.Module]:
        """The modules of the target, and the drafter."""
        return super().modules(sources, note) | {"drafter": sources.others["drafter"].load_model(note=note)}

    def drafter_tokenizer(self, sources: Sources) -> Any | None:
        """The tokenizer of the drafter's checkpoint."""
        return sources.others["drafter"].load_tokenizer()


EXPORTER = DraftModelExporter()
