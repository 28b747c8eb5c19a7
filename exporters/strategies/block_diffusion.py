"""block-diffusion: the checkpoint is a language model that fills blocks of masks."""

from __future__ import annotations

from ptgc.exporters.checkpoint.checkpoint import Checkpoint
from ptgc.exporters.checkpoint.diffusion_formats import Attention
from ptgc.exporters.strategies.masked_diffusion import MaskedDiffusionExporter


class BlockDiffusionExporter(MaskedDiffusionExporter):
    """Models of public formats whose positions see no later block."""

    def fits(self, checkpoint: Checkpoint) -> bool:
        """Whether it was trained so, as far as its format says."""
        return checkpoint.diffusion is not None and checkpoint.diffusion.attention is not Attention.BIDIRECTIONAL


EXPORTER = BlockDiffusionExporter()
