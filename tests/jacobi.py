"""Jacobi decoding as the paper has it, in plain PyTorch, over a model that reads whole texts."""

from __future__ import annotations

from typing import Any

import torch


class Jacobi:
    """Guesses after a text, all of which are corrected at once (Santilli et al., algorithm 2, without blocks).

    Args:
        model: The target.
        count: How many tokens are guessed.
    """

    def __init__(self, model: Any, count: int) -> None:
        self._model, self._count = model, count
        self._guesses: list[int] = []

    def drafts(self, text: list[int], limit: int) -> list[int]:
        """The guesses, and copies of the last one, at most so many."""
        known = [text[-1], *self._guesses]
        return [known[min(i, len(known) - 1)] for i in range(1, min(limit, self._count) + 1)]

    @torch.no_grad()
    def observe(self, text: list[int], drafts: list[int], emitted: list[int]) -> None:
        """Correct all guesses, and drop those that the new text has reached."""
        logits = self._model(torch.tensor([text + drafts])).logits[0, len(text) - 1 :]
        corrected = [*logits.argmax(dim=-1).tolist(), *self._guesses[len(drafts) + 1 :]]
        self._guesses = corrected[len(emitted) :]
