"""block-diffusion: blocks of masked positions are filled one after the other, over a cache of those before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

from ptgc.errors import ExportError
from ptgc.spec.canvas import CanvasCache, PolicyKind, Schedule
from ptgc.spec.fields import Length, Range, TokenId
from ptgc.spec.limits import MAX_ROUNDS
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.base import CheckpointFacts, Strategy, mask_token
from ptgc.spec.strategies.canvas_options import UnmaskingOptions


@dataclass(frozen=True, kw_only=True)
class BlockDiffusionOptions(UnmaskingOptions):
    """How a block is filled."""

    num_steps: Annotated[int, Range(0, MAX_ROUNDS)] = 0
    """Most rounds of a block, or with another schedule than per-block those of a whole canvas; 0 for as many as a block
    has positions. A request may change it."""
    schedule: Schedule = Schedule.PER_BLOCK
    """How many positions a round must fill: an equal share of a whole block, however much of it is masked (per-block),
    an equal share of those still masked (linear), or few at first (cosine)."""
    block_length: Length | None = None
    """Positions of a block; by default as many as the model was trained with."""
    mask_token_id: TokenId | None = None
    """The mask token, where neither the tokenizer nor config.json names one."""

    def filling(self, mask_token_id: int, block_length: int) -> DecodePlan:
        """The plan with a cache of blocks of this length."""
        options = replace(self, num_steps=self.num_steps or block_length)
        canvas = replace(options.canvas(mask_token_id, block_length), cache=CanvasCache.BLOCK)
        return DecodePlan(STRATEGY.name, STRATEGY.loop, STRATEGY.guarantee, canvas=canvas)


def block_diffusion(
    mask_token_id: int,
    block_length: int,
    num_steps: int = BlockDiffusionOptions.num_steps,
    threshold: float | None = None,
    policy: PolicyKind = BlockDiffusionOptions.policy,
) -> DecodePlan:
    """Each round fills some of the masked positions of a block, the most confident first or by another policy.

    Args:
        mask_token_id: The token that stands for a masked position.
        block_length: Positions of a block, which see each other and the blocks before.
        num_steps: Rounds of a block; 0 for one for each of its positions.
        threshold: A round also fills every position with more confidence than this.
        policy: Which positions come first.
    """
    options = BlockDiffusionOptions(num_steps=num_steps, threshold=threshold, policy=policy)
    return options.filling(mask_token_id, block_length)


def _plan(options: BlockDiffusionOptions, facts: CheckpointFacts) -> DecodePlan:
    length = options.block_length or facts.block_size
    if length is None:
        raise ExportError(
            f"Strategy '{STRATEGY.name}' needs the length of a block, and this checkpoint does not name it.",
            "Give the length that the model was trained with: --block-length",
        )
    if facts.shift:
        raise ExportError(
            f"Strategy '{STRATEGY.name}' cannot run this model: it predicts the first position of a block by the last "
            "row of the block before (shift), which has been read by then."
        )
    return options.filling(mask_token(options.mask_token_id, facts, STRATEGY.name), length)


STRATEGY = Strategy(
    name="block-diffusion",
    loop=Loop.CANVAS,
    guarantee=Guarantee.LOSSY,
    summary="Blocks of masked positions are filled one after the other, over an exact cache of the blocks before.",
    source="BD3-LM, arXiv 2503.09573; SDAR, arXiv 2510.06303",
    options=BlockDiffusionOptions,
    plan=_plan,
    exporter="ptgc.exporters.strategies.block_diffusion:EXPORTER",
)
