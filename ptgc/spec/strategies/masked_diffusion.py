"""masked-diffusion: each round fills some of the masked positions of a canvas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ptgc.errors import ExportError
from ptgc.spec.canvas import CanvasPlan, Schedule
from ptgc.spec.fields import Range
from ptgc.spec.limits import MAX_LENGTH
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.base import CheckpointFacts, Strategy
from ptgc.spec.strategies.canvas_options import UnmaskingOptions


@dataclass(frozen=True, kw_only=True)
class MaskedDiffusionOptions(UnmaskingOptions):
    """How a canvas is filled."""

    block_length: Annotated[int, Range(0, MAX_LENGTH)] = 0
    """Positions that are filled before the next ones are started; 0 for all at once."""

    def problems(self) -> list[str]:
        """Also a schedule of blocks without blocks."""
        found = super().problems()
        if self.schedule is Schedule.PER_BLOCK and self.block_length == 0:
            found.append("--schedule is per-block, which needs --block-length.")
        return found


def masked_diffusion(
    mask_token_id: int,
    num_steps: int = MaskedDiffusionOptions.num_steps,
    threshold: float | None = None,
    block_length: int = MaskedDiffusionOptions.block_length,
) -> DecodePlan:
    """Each round fills some of the masked positions of a canvas, the most confident first."""
    options = MaskedDiffusionOptions(num_steps=num_steps, threshold=threshold, block_length=block_length)
    return _filling(options.canvas(mask_token_id, block_length))


def _filling(canvas: CanvasPlan) -> DecodePlan:
    return DecodePlan(STRATEGY.name, STRATEGY.loop, STRATEGY.guarantee, canvas=canvas)


def _plan(options: MaskedDiffusionOptions, facts: CheckpointFacts) -> DecodePlan:
    if facts.mask_token_id is None:
        raise ExportError(
            "Strategy 'masked-diffusion' needs a mask token, and this checkpoint's tokenizer names none.",
            "Add mask_token to its tokenizer_config.json.",
        )
    return _filling(options.canvas(facts.mask_token_id, options.block_length))


STRATEGY = Strategy(
    name="masked-diffusion",
    loop=Loop.CANVAS,
    guarantee=Guarantee.LOSSY,
    summary="Each round fills some of the masked positions of a canvas, the most confident first or by another policy.",
    source="MaskGIT, arXiv 2202.04200, section 3.2; LLaDA, arXiv 2502.09992, appendix B; Fast-dLLM, arXiv 2505.22618; "
    "EB-Sampler, arXiv 2505.24857",
    options=MaskedDiffusionOptions,
    plan=_plan,
    exporter="ptgc.exporters.strategies.masked_diffusion:EXPORTER",
)
