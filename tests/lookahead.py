"""Lookahead decoding as the paper has it, in plain PyTorch, over a model that reads whole texts."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch


class Lookahead:
    """A window of Jacobi iterations, and the n-grams that it wrote (Fu et al., algorithm 2).

    Args:
        model: The target.
        window_size: W of the paper.
        ngram_size: N.
        num_branches: G.
    """

    def __init__(self, model: Any, window_size: int, ngram_size: int, num_branches: int) -> None:
        self._model = model
        self._window_size, self._ngram_size, self._num_branches = window_size, ngram_size, num_branches
        self.pool: dict[int, list[tuple[int, ...]]] = defaultdict(list)
        self.levels: list[list[int]] = []  # the first level begins behind the text's last token

    def drafts(self, text: list[int], limit: int) -> tuple[list[list[int]], list[list[int]]]:
        """The paths of all nodes that may be accepted, and of those that are only run."""
        if not self.levels:
            count = self._window_size + self._ngram_size - 3
            self.levels = [(text * count)[-count:]]
        branches = [list(ngram) for ngram in reversed(self.pool[text[-1]])]
        verified = _nodes(branches, [])[:limit]
        window = [path for depth in range(len(self.levels)) for path in self._paths(depth)]
        most = sum(map(len, self.levels))
        run = _nodes(window, verified) if most <= limit - len(verified) else []
        return verified, run

    def _paths(self, level: int) -> list[list[int]]:
        """What each token of a level sees, and itself: level 0 up to its column, then its column."""
        first, *others = self.levels
        heads = [first[:column] for column in range(len(first) + 1)]
        return [head + [other[column] for other in others[:level]] for column, head in enumerate(heads)]

    def observe(self, text: list[int]) -> None:
        """Take the window, which was run after a text, one step on."""
        answers = [self._after(text + path) for path in self._paths(len(self.levels) - 1)]
        if len(self.levels) < self._ngram_size - 1:  # the levels are being filled
            self.levels = [level[1:] for level in self.levels] + [answers[1:]]
            return
        keys = [text[-1], *self.levels[0]]
        for ngram in zip(keys, *self.levels[1:], answers, strict=True):
            known = self.pool[ngram[0]]
            if ngram[1:] in known:
                known.remove(ngram[1:])
            known.append(ngram[1:])
            del known[: -self._num_branches]
        first, *others = [*self.levels[1:], answers]
        self.levels = [first[1:], *others]

    @torch.no_grad()
    def _after(self, text: list[int]) -> int:
        return int(self._model(torch.tensor([text])).logits[0, -1].argmax())


def _nodes(paths: list[list[int]], known: list[list[int]]) -> list[list[int]]:
    """The nodes of a tree of these paths that are not known, each by its path."""
    found: list[list[int]] = []
    for path in paths:
        found += [path[:end] for end in range(1, len(path) + 1) if path[:end] not in found + known]
    return found
