"""A tiny block diffusion model (BD3-LM, arXiv 2503.09573): a block sees the blocks before it and all of itself."""

from __future__ import annotations

from typing import Any

import torch

from ptgc.spec.canvas import CanvasCache, CanvasPlan
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from tests.other_models import tiny_llama
from tests.torch_canvas import fill

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
            quota = -(-int(masked.sum()) // remaining)
            fill(seen, logits, masked, quota, plan.mask_token_id, plan.policy.bound)
    return text[len(prompt) : len(prompt) + count].tolist()
