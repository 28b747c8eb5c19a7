"""Heads that read drafts: each depth of a tree is drafted from the tokens of the one above, all in one graph."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ptgc.exporters.modules.tap import Tap
from ptgc.spec.tree import TreeSpec


class SequentialHeads(nn.Module):
    """Heads each of which takes in one token, and drafts what follows it.

    Args:
        num_heads: Number of heads: the most tokens in a row that they can draft.
        drafted_ids: The target's ids of the tokens that they can draft; by default all, in order.
    """

    def __init__(self, num_heads: int, drafted_ids: Sequence[int] | None = None) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.drafted_ids = drafted_ids
        self.tap = Tap()

    @abstractmethod
    def begin(self, hidden_states: Tensor) -> Tensor:
        """The first head's state `[batch, 1, ...]` of the target's `[batch, 1, hidden_size]`."""

    @abstractmethod
    def step(self, head: int, states: Tensor, token_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Take in a token behind each of some states.

        Args:
            head: Number of the head, which is the depth of the tokens.
            states: What the head before made, `[batch, nodes, ...]`.
            token_ids: int64 `[batch, nodes]`.

        Returns:
            The states `[batch, nodes, ...]` for the next head, and logits `[batch, nodes, vocab]` of what follows.
        """


class TreeOfHeads(nn.Module):
    """All drafts of a tree: a run of each head for the nodes of its depth that have children.

    Args:
        heads: At least as many as the tree is deep.
        tree: The tree to draft.
    """

    def __init__(self, heads: SequentialHeads, tree: TreeSpec) -> None:
        super().__init__()
        self.heads = heads
        self.depths = [
            [node for node, depth in enumerate(tree.depths) if depth == level]
            for level in range(1, max(tree.depths) + 1)
        ]
        self.tree = tree

    def forward(self, hidden_states: Tensor, input_ids: Tensor) -> Tensor:
        """Drafts int64 `[batch, drafts]` in the order of the nodes, the likeliest first among siblings.

        Args:
            hidden_states: The target's of the token before the last, `[batch, 1, hidden_size]`.
            input_ids: The last token, int64 `[batch, 1]`.
        """
        states, token_ids, above = self.heads.begin(hidden_states), input_ids, [0]
        parents, ranks = self.tree.parents, self.tree.ranks
        made = []
        for head, nodes in enumerate(self.depths):
            states, logits = self.heads.step(head, states, token_ids)
            most = max(ranks[node] for node in nodes) + 1
            best = logits.topk(most, dim=-1).indices.flatten(1)  # [batch, nodes above * most]
            rows = {node: above.index(parents[node]) for node in nodes}
            made.append(self._ids(_chosen(best, [rows[node] * most + ranks[node] for node in nodes])))
            above = [node for node in nodes if node in parents]
            states = _chosen(states, [rows[node] for node in above])
            token_ids = _chosen(made[-1], [nodes.index(node) for node in above])
        return torch.cat(made, dim=1)

    def _ids(self, places: Tensor) -> Tensor:
        """The target's ids of drafted tokens."""
        known = self.heads.drafted_ids
        return places if known is None else torch.tensor(known)[places]


def _chosen(rows: Tensor, places: Sequence[int]) -> Tensor:
    """Some of the rows of each sequence."""
    return rows.index_select(1, torch.tensor(places, dtype=torch.long))
