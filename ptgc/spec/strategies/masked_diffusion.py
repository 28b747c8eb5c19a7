"""masked-diffusion: each round fills some of the masked positions of a canvas."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from ptgc.spec.canvas import CacheInterval, CanvasCache, CanvasPlan, Schedule
from ptgc.spec.fields import Range, TokenId
from ptgc.spec.limits import MAX_LENGTH
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.base import CheckpointFacts, Strategy, mask_token
from ptgc.spec.strategies.canvas_options import UnmaskingOptions


@dataclass(frozen=True, kw_only=True)
class MaskedDiffusionOptions(UnmaskingOptions):
    """How a canvas is filled."""

    block_length: Annotated[int, Range(0, MAX_LENGTH)] = 0
    """Positions that are filled before the next ones are started; 0 for all at once."""
    shift: bool = False
    """Predict a position by the row before it, as in models that were causal before. Formats that say so need no
    option."""
    cache: CanvasCache = CanvasCache.NONE
    """What a language model keeps of a canvas while a block is filled. All but none approximate: the keys and values of
    positions before the block (prefix), of all outside it (dual), or of all tokens from the round after they were
    filled (delayed)."""
    cache_interval: CacheInterval = CanvasPlan.cache_interval
    """delayed: rounds after which all positions are read anew."""
    mask_token_id: TokenId | None = None
    """The mask token, where neither the tokenizer nor config.json names one."""

    def problems(self) -> list[str]:
        """Also a schedule or a cache of blocks without blocks, and the cache of another strategy."""
        found = super().problems()
        if self.schedule is Schedule.PER_BLOCK and self.block_length == 0:
            found.append("--schedule is per-block, which needs --block-length.")
        if self.cache is CanvasCache.BLOCK:
            found.append(
                "--cache is block, which is exact for models whose blocks see no later ones: give --strategy "
                "block-diffusion."
            )
        if self.cache is CanvasCache.DUAL and self.block_length == 0:
            found.append(
                "--cache is dual, which needs --block-length: nothing lies behind the only block, so that it "
                "would be prefix."
            )
        if self.cache is not CanvasCache.DELAYED and self.cache_interval != CanvasPlan.cache_interval:
            found.append(f"--cache-interval is {self.cache_interval}; only --cache delayed has one.")
        return found


def masked_diffusion(
    mask_token_id: int,
    num_steps: int = MaskedDiffusionOptions.num_steps,
    threshold: float | None = None,
    block_length: int = MaskedDiffusionOptions.block_length,
    shift: bool = False,
) -> DecodePlan:
    """Each round fills some of the masked positions of a canvas, the most confident first."""
    options = MaskedDiffusionOptions(num_steps=num_steps, threshold=threshold, block_length=block_length)
    return _filling(options.canvas(mask_token_id, block_length), shift=shift)


def _filling(canvas: CanvasPlan, *, shift: bool) -> DecodePlan:
    return DecodePlan(STRATEGY.name, STRATEGY.loop, STRATEGY.guarantee, canvas=replace(canvas, shift=shift))


def _plan(options: MaskedDiffusionOptions, facts: CheckpointFacts) -> DecodePlan:
    mask_token_id = mask_token(options.mask_token_id, facts, STRATEGY.name)
    canvas = options.canvas(mask_token_id, options.block_length)
    canvas = replace(canvas, cache=options.cache, cache_interval=options.cache_interval)
    return _filling(canvas, shift=options.shift or facts.shift)


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
