"""masked-diffusion: the checkpoint is a denoiser."""

from __future__ import annotations

from typing import Any

from torch import nn

from ptgc.exporters.checkpoint.checkpoint import Checkpoint
from ptgc.exporters.checkpoint.diffusion_formats import Attention
from ptgc.exporters.checkpoint.task import Task
from ptgc.exporters.modules.dit import DitForMaskedDiffusion
from ptgc.exporters.strategies.base import Note, Sources, StrategyExporter
from ptgc.spec.strategies.base import CheckpointFacts


class MaskedDiffusionExporter(StrategyExporter):
    """Masked language models, diffusion models of public formats, and models that fill masks with their own code."""

    def fits(self, checkpoint: Checkpoint) -> bool:
        """Whether it can fill masks; diffusion models come as AutoModelForCausalLM, for lack of a better class."""
        if checkpoint.diffusion is not None:
            return checkpoint.diffusion.attention is not Attention.BLOCK
        has_own_code = checkpoint.has_own_code and checkpoint.task is Task.CAUSAL_LM
        return checkpoint.task is Task.MASKED_LM or has_own_code

    def facts(self, sources: Sources, tokenizer: Any | None) -> CheckpointFacts:
        """The mask token of its tokenizer, its config.json or its format, and how the format says that it predicts."""
        found = sources.model.diffusion
        named = getattr(tokenizer, "mask_token_id", None)
        mask = getattr(sources.model.config, "mask_token_id", None) if named is None else named
        if found is None:
            return CheckpointFacts(mask_token_id=mask)
        mask = found.mask_token_id if mask is None else mask
        return CheckpointFacts(mask_token_id=mask, block_size=found.block_length, shift=found.shift)

    def modules(self, sources: Sources, note: Note) -> dict[str, nn.Module]:
        """The denoiser; a noise level that is always the same becomes part of its weights."""
        model = sources.model.load_model(note=note)
        if isinstance(model, DitForMaskedDiffusion) and not model.reads_time:
            model.fix_noise_level()
        return {"denoiser": model}


EXPORTER = MaskedDiffusionExporter()
