"""masked-diffusion: each round fills some of the masked positions of a canvas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ptgc.errors import ExportError
from ptgc.spec.canvas import CanvasPlan, PolicyInputs
from ptgc.spec.fields import Range
from ptgc.spec.limits import MAX_LENGTH, MAX_ROUNDS
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.base import CheckpointFacts, Strategy


@dataclass(frozen=True)
class MaskedDiffusionOptions:
    """How many positions a round fills."""

    num_steps: Annotated[int, Range(1, MAX_ROUNDS)] = 16
    """Rounds that fill a canvas."""
    threshold: float | None = None
    """A round also fills every position with more confidence than this, between 0 and 1."""
    block_length: Annotated[int, Range(0, MAX_LENGTH)] = 0
    """Positions that are filled before the next ones are started; 0 for all at once."""

    def problems(self) -> list[str]:
        """A threshold that every confidence or none exceeds."""
        if self.threshold is None or 0 < self.threshold < 1:
            return []
        return [f"--threshold is {self.threshold}; it must be between 0 and 1."]


def masked_diffusion(
    mask_token_id: int,
    num_steps: int = MaskedDiffusionOptions.num_steps,
    threshold: float | None = None,
    block_length: int = MaskedDiffusionOptions.block_length,
) -> DecodePlan:
    """Each round fills some of the masked positions of a canvas, the most confident first."""
    policy = PolicyInputs() if threshold is None else PolicyInputs(threshold)
    canvas = CanvasPlan(mask_token_id, num_steps, block_length, policy)
    return DecodePlan(STRATEGY.name, STRATEGY.loop, STRATEGY.guarantee, canvas=canvas)


def _plan(options: MaskedDiffusionOptions, facts: CheckpointFacts) -> DecodePlan:
    if facts.mask_token_id is None:
        raise ExportError(
            "Strategy 'masked-diffusion' needs a mask token, and this checkpoint's tokenizer names none.",
            "Add mask_token to its tokenizer_config.json.",
        )
    return masked_diffusion(facts.mask_token_id, options.num_steps, options.threshold, options.block_length)


STRATEGY = Strategy(
    name="masked-diffusion",
    loop=Loop.CANVAS,
    guarantee=Guarantee.LOSSY,
    summary="Each round fills some of the masked positions of a canvas, the most confident first.",
    source="MaskGIT, arXiv 2202.04200, section 3.2; LLaDA, arXiv 2502.09992, appendix B; Fast-dLLM, arXiv 2505.22618",
    options=MaskedDiffusionOptions,
    plan=_plan,
    exporter="ptgc.exporters.strategies.masked_diffusion:EXPORTER",
)
