"""Tiny diffusion language models in plain PyTorch.

With blocks (BD3-LM, arXiv 2503.09573) a block sees the blocks before it and all of itself; without, all positions see
each other (LLaDA, arXiv 2502.09992).
"""

from __future__ import annotations

from typing import Any

import torch

from ptgc.spec.canvas import CanvasCache, CanvasPlan
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from tests.other_models import tiny_llama

BLOCK_DIFFUSION = DecodePlan(
    "block-diffusion",
    Loop.CANVAS,
    Guarantee.LOSSY,
    canvas=CanvasPlan(mask_token_id=3, num_steps=8, block_length=4, cache=CanvasCache.BLOCK),
)


def tiny_block_diffusion() -> Any:
    """A llama whose rows predict their own positions; token 3 is its mask."""
    return tiny_llama(layers=2)


@torch.no_grad()
def diffuse_blocks(prompt: list[int], count: int, plan: CanvasPlan) -> list[int]:
    """The text written after a prompt, in plain PyTorch and without a cache.

    Blocks begin at multiples of the block length, so that the first may hold the end of the prompt; the last is filled
    to its end.
    """
    model, size = tiny_block_diffusion(), plan.block_length
    rest = -(len(prompt) + count) % size
    text = torch.tensor(prompt + [plan.mask_token_id] * (count + rest))
    starts = range(len(prompt) // size * size, len(text), size)
    for start in starts:
        seen = text[: start + size]
        block = torch.arange(len(seen)) // size
        mask = (block[:, None] >= block)[None, None]
        for remaining in range(max(1, plan.num_steps // len(starts)), 0, -1):
            masked = (seen == plan.mask_token_id) & (block == start // size)
            if not masked.any():
                break
            logits = model(input_ids=seen[None], attention_mask=mask, use_cache=False).logits[0]
            _fill(seen, logits, masked, remaining, plan)
    return text[len(prompt) : len(prompt) + count].tolist()


@torch.no_grad()
def fill_both_ways(given: list[int], plan: CanvasPlan) -> tuple[list[int], int]:
    """A canvas whose masks are filled in, and the rounds that it took: every position sees every other.

    Blocks begin at the first mask.
    """
    model, text, rounds = tiny_block_diffusion(), torch.tensor(given), 0
    places = (text == plan.mask_token_id).nonzero().flatten().tolist()
    first, end = places[0], places[-1] + 1
    size = plan.block_length or end - first
    starts = range(first, end, size)
    mask = torch.ones(1, 1, len(given), len(given), dtype=torch.bool)
    at = torch.arange(len(given))
    for start in starts:
        for remaining in range(max(1, plan.num_steps // len(starts)), 0, -1):
            masked = (text == plan.mask_token_id) & (at >= start) & (at < start + size)
            if not masked.any():
                break
            logits = model(input_ids=text[None], attention_mask=mask, use_cache=False).logits[0]
            if plan.shift:
                logits = torch.cat([logits[:1], logits[:-1]])
            _fill(text, logits, masked, remaining, plan)
            rounds += 1
    return text.tolist(), rounds


def _fill(text: torch.Tensor, logits: torch.Tensor, masked: torch.Tensor, remaining: int, plan: CanvasPlan) -> None:
    """Fill an equal share of the masks, the most confident first, and all above the threshold."""
    logits = logits.float()
    logits[:, plan.mask_token_id] = -torch.inf
    confidence, chosen = logits.softmax(-1).max(-1)
    order = torch.where(masked, confidence, -1).argsort(descending=True, stable=True)
    filled = torch.zeros_like(masked)
    filled[order[: -(-int(masked.sum()) // remaining)]] = True
    filled |= confidence > plan.policy.bound
    text[filled & masked] = chosen[filled & masked]  # perhaps a view into a longer text
