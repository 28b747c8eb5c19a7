"""Token recycling as the paper has it, in plain PyTorch, over a model that reads whole texts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch

from ptgc.spec.tree import TreeSpec


class Recycling:
    """An adjacency matrix, and the tree that is filled from it (Luo et al., section 3).

    Args:
        model: The target.
        tree: The static tree, whose nodes come in the order of their depths.
        count: Candidates for each token.
    """

    def __init__(self, model: Any, tree: TreeSpec, count: int) -> None:
        self.matrix: dict[int, list[int]] = {}
        self.paths: list[list[int]] = []
        self._model, self._tree, self._count = model, tree, count

    def drafts(self, text: Sequence[int], limit: int) -> list[int]:
        """The drafts after a text: breadth first, at most so many."""
        paths: dict[int, list[int]] = {0: []}
        for node in range(1, self._tree.num_nodes):
            above = paths.get(self._tree.parents[node])
            if len(paths) > limit or above is None:
                continue
            candidates = self.matrix.get((above or [text[-1]])[-1], [])
            if candidates:
                paths[node] = [*above, candidates[self._tree.ranks[node]]]
        self.paths = list(paths.values())[1:]
        return [path[-1] for path in self.paths]

    def observe(self, text: list[int], read: int, emitted: list[int]) -> None:
        """Keep what the target says after the drafts, then after the last `read` tokens, then after accepted drafts."""
        for _, group in groupby(self.paths, len):
            paths = list(group)
            after = self._after([text + path for path in paths], 1)
            self.matrix |= {path[-1]: rows[0] for path, rows in zip(paths, after, strict=True)}
        self.paths = []
        whole = text + emitted[:-1]  # the last token is the bonus token, which was not read
        (rows,) = self._after([whole], read + len(emitted) - 1)
        self.matrix |= dict(zip(whole[-len(rows) :], rows, strict=True))

    @torch.no_grad()
    def _after(self, texts: list[list[int]], rows: int) -> list[list[list[int]]]:
        logits = self._model(torch.tensor(texts)).logits[:, -rows:]
        found: list[list[list[int]]] = logits.topk(self._count).indices.tolist()
        return found
