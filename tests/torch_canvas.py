"""The generation loops of diffusion language models in plain PyTorch, written from their reference implementations.

Each takes `model(ids, sees) -> logits`, see `tests.diffusion_models.PlainModel`, keeps no cache, and never chooses the
mask token: the references allow it, which leaves the position masked for one more step.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Model = Callable[[Tensor, Tensor], Tensor]
TimedModel = Callable[[Tensor, Tensor, float], Tensor]


def llada(
    model: Model,
    prompt: list[int],
    count: int,
    mask: int,
    num_steps: int,
    block_length: int = 0,
    threshold: float = 1.0,
) -> list[int]:
    """LLaDA (ML-GSAI/LLaDA, low-confidence remasking at temperature 0): the tokens that follow a prompt.

    Args:
        model: The model.
        prompt: The beginning of the text.
        count: Tokens to write.
        mask: The mask token.
        num_steps: Steps of the whole text, each of which fills an equal share of its block.
        block_length: Positions of a block; 0 for all.
        threshold: A step fills all positions above it, if these are more (Fast-dLLM).
    """
    text = torch.tensor(prompt + [mask] * count)
    sees = torch.ones(len(text), len(text), dtype=torch.bool)
    length = block_length or count
    starts = range(len(prompt), len(text), length)
    for start in starts:
        block = torch.zeros(len(text), dtype=torch.bool)
        block[start : start + length] = True
        for quota in _shares(int(block.sum()), max(1, num_steps // len(starts))):
            masked = (text == mask) & block
            if masked.any():
                fill(text, model(text, sees), masked, quota, mask, threshold)
    return text[len(prompt) :].tolist()


def dream(model: Model, prompt: list[int], count: int, mask: int, num_steps: int, threshold: float = 1.0) -> list[int]:
    """Dream: as LLaDA, but a position is predicted by the row before it."""

    def shifted(ids: Tensor, sees: Tensor) -> Tensor:
        logits = model(ids, sees)
        return torch.cat([logits[:1], logits[:-1]])

    return llada(shifted, prompt, count, mask, num_steps, threshold=threshold)


def mdlm(
    model: TimedModel, prompt: list[int], count: int, mask: int, num_steps: int, threshold: float = 1.0
) -> list[int]:
    """MDLM and SEDD (kuleshov-group/mdlm, louaaron/Score-Entropy-Discrete-Diffusion): the times of their samplers, from
    1 to 1e-5 in equal steps; which positions a step fills is LLaDA's choice, not drawn.

    Args:
        model: The model, which also takes the time.
        prompt: The beginning of the text.
        count: Tokens to write, a multiple of the steps.
        mask: The mask token.
        num_steps: Steps, each of which fills an equal share.
        threshold: A step fills all positions above it, if these are more.
    """
    text = torch.tensor(prompt + [mask] * count)
    sees = torch.ones(len(text), len(text), dtype=torch.bool)
    for time in torch.linspace(1, 1e-5, num_steps + 1)[:-1].tolist():
        fill(text, model(text, sees, time), text == mask, count // num_steps, mask, threshold)
    return text[len(prompt) :].tolist()


def sdar(
    model: Model, prompt: list[int], count: int, mask: int, block_length: int, num_steps: int, threshold: float = 1.0
) -> list[int]:
    """SDAR (JetAstra/SDAR, low-confidence static and dynamic): blocks at multiples of their length, the first of which
    may hold the end of the prompt; the text is cut to its length at the end.

    Args:
        model: The model.
        prompt: The beginning of the text.
        count: Tokens to write.
        mask: The mask token.
        block_length: Positions of a block.
        num_steps: Steps of a block, each of which fills an equal share of a whole block.
        threshold: A step fills all positions above it, if these are more.
    """
    first = len(prompt) // block_length
    blocks = -(-(len(prompt) + count) // block_length)
    text = torch.tensor(prompt + [mask] * (blocks * block_length - len(prompt)))
    of = torch.arange(len(text)) // block_length
    for block in range(first, blocks):
        seen = text[: (block + 1) * block_length]
        sees = of[: len(seen), None] >= of[: len(seen)]
        for quota in _shares(block_length, num_steps):
            masked = (seen == mask) & (of[: len(seen)] == block)
            if masked.any():
                fill(seen, model(seen, sees), masked, quota, mask, threshold)
    return text[len(prompt) : len(prompt) + count].tolist()


def _shares(count: int, num_steps: int) -> list[int]:
    return [count // num_steps + (step < count % num_steps) for step in range(num_steps)]


def fill(text: Tensor, logits: Tensor, masked: Tensor, quota: int, mask: int, threshold: float) -> None:
    """Fill `quota` of the masked positions of a text, the most confident first, and all above the threshold."""
    logits = logits.float().index_fill(1, torch.tensor([mask]), -torch.inf)
    confidence, chosen = logits.softmax(-1).max(-1)
    order = torch.where(masked, confidence, -1.0).argsort(descending=True, stable=True)
    filled = torch.zeros_like(masked)
    filled[order[:quota]] = True
    filled = (filled | (confidence > threshold)) & masked
    text[filled] = chosen[filled]
