"""A tiny PARD drafter that is right at times, and its loop in plain PyTorch."""

from __future__ import annotations

import copy
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from tests.models import greedy, prompt, tiny_model

MASK, DRAFTS = 2, 4
_LENGTHS, _TOKENS, _STEPS = (1, 5, 40), 48, 14


@cache
def pard_drafter() -> Any:
    """The tiny llama, which has learnt by heart what it writes behind prompts of the tests, at masks as well."""
    model = copy.deepcopy(tiny_model("llama"))
    model.config.pard_token = MASK
    torch.manual_seed(0)
    texts = [[*one, *greedy(model, one, _TOKENS)] for one in map(prompt, _LENGTHS)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
    for step in range(_STEPS):
        optimizer.zero_grad()
        for text in texts:
            for end in range(len(text) - _TOKENS + 1 + step % 4, len(text) - DRAFTS, 4):
                rows = torch.tensor([[*text[:end], *[MASK] * (DRAFTS - 1)]])
                logits = model(rows).logits[0, end - 1 :]
                cross_entropy(logits, torch.tensor(text[end : end + DRAFTS])).backward()
        optimizer.step()
    return model.eval().requires_grad_(False)


@torch.no_grad()
def draft_logits(drafter: Any, ids: list[int], count: int = DRAFTS) -> Tensor:
    """Logits of the next tokens of a text, all from one run (PARD, arXiv 2504.18583, section 3), `[count, vocab]`."""
    found: Tensor = drafter(torch.tensor([[*ids, *[MASK] * (count - 1)]])).logits[0, -count:]
    return found


def drafts(drafter: Any, ids: list[int], count: int = DRAFTS) -> list[int]:
    """The likeliest of them."""
    found: list[int] = draft_logits(drafter, ids, count).argmax(dim=-1).tolist()
    return found
