"""masked-diffusion: each round fills some of the masked positions of a canvas."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from ptgc.spec.canvas import CacheInterval, CanvasCache, CanvasPlan, PolicyKind, Schedule
from ptgc.spec.fields import Range, TokenId
from ptgc.spec.limits import MAX_DRAFT_STEPS, MAX_LENGTH
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
    draft_steps: Annotated[int, Range(0, MAX_DRAFT_STEPS)] = 0
    """Steps that are drafted from one run and verified by the next, in as many further rows: fewer runs of more rows
    for the same text."""
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
        if self.draft_steps and self.cache is not CanvasCache.NONE:
            found.append(
                f"--draft-steps is {self.draft_steps}; --cache is {self.cache.value}, with which none are drafted."
            )
        return found


def masked_diffusion(
    mask_token_id: int,
    num_steps: int = MaskedDiffusionOptions.num_steps,
    threshold: float | None = None,
    block_length: int = MaskedDiffusionOptions.block_length,
    shift: bool = False,
    policy: PolicyKind = MaskedDiffusionOptions.policy,
    draft_steps: int = MaskedDiffusionOptions.draft_steps,
) -> DecodePlan:
    """Each round fills some of the masked positions of a canvas, the most confident first or by another policy."""
    options = MaskedDiffusionOptions(
        num_steps=num_steps,
        threshold=threshold,
        block_length=block_length,
        policy=policy,
        shift=shift,
        draft_steps=draft_steps,
    )
    return _filling(options, mask_token_id)


def _filling(options: MaskedDiffusionOptions, mask_token_id: int) -> DecodePlan:
    canvas = options.canvas(mask_token_id, options.block_length)
    canvas = replace(
        canvas,
        shift=options.shift,
        num_draft_steps=options.draft_steps,
        cache=options.cache,
        cache_interval=options.cache_interval,
    )
    return DecodePlan(STRATEGY.name, STRATEGY.loop, STRATEGY.guarantee, canvas=canvas)


def _plan(options: MaskedDiffusionOptions, facts: CheckpointFacts) -> DecodePlan:
    mask_token_id = mask_token(options.mask_token_id, facts, STRATEGY.name)
    return _filling(replace(options, shift=options.shift or facts.shift), mask_token_id)


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
