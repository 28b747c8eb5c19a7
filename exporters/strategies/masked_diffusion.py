"""masked-diffusion: the checkpoint is a denoiser."""

from __future__ import annotations

from torch import nn

from ptgc.exporters.checkpoint.checkpoint import Checkpoint
from ptgc.exporters.checkpoint.task import Task
from ptgc.exporters.strategies.base import Note, Sources, StrategyExporter


class MaskedDiffusionExporter(StrategyExporter):
    """Masked language models, and models that fill masks with their own code."""

    def fits(self, checkpoint: Checkpoint) -> bool:
        """Whether it can fill masks; diffusion models come as AutoModelForCausalLM, for lack of a better class."""
        has_own_code = checkpoint.has_own_code and checkpoint.task is Task.CAUSAL_LM
        return checkpoint.task is Task.MASKED_LM or has_own_code

    def modules(self, sources: Sources, note: Note) -> dict[str, nn.Module]:
        """The denoiser."""
        return {"denoiser": sources.model.load_model(note=note)}


EXPORTER = MaskedDiffusionExporter()
