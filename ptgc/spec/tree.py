"""TreeSpec: the shape of a proposal. A chain is a tree in which every node has one child."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from ptgc.spec.fields import Count, Range
from ptgc.spec.limits import MAX_TREE_NODES

_TOO_LARGE = f"it has more than the {MAX_TREE_NODES - 1} draft tokens that a tree may have"


@dataclass(frozen=True)
class TreeSpec:
    r"""A static token tree in topological order; node 0 is the root, the last committed token.

    ```
            0            parents = (-1, 0, 0, 1, 1)
          /   \          depths  = ( 0, 1, 1, 2, 2)
         1     2
        / \
       3   4
    ```
    """

    parents: Annotated[tuple[Annotated[int, Range(-1, MAX_TREE_NODES)], ...], Count(1, MAX_TREE_NODES)]
    """Parent of each node; -1 for the root. A parent comes before its children."""

    def __post_init__(self) -> None:
        if not self.parents or self.parents[0] != -1:
            raise ValueError("a tree starts with its root, whose parent is -1")
        for node, parent in enumerate(self.parents[1:], start=1):
            if not 0 <= parent < node:
                raise ValueError(f"node {node} has parent {parent}; a parent must come before its children")

    @staticmethod
    def chain(num_draft_tokens: int) -> TreeSpec:
        """The root followed by `num_draft_tokens` nodes in a row."""
        return TreeSpec(tuple(range(-1, num_draft_tokens)))

    @staticmethod
    def branching(*children: int) -> TreeSpec:
        """Every node of depth d has `children[d]` children; nodes are ordered by depth.

        Raises:
            ValueError: A number of children is below 1, or the tree has too many nodes.
        """
        if min(children, default=1) < 1:
            raise ValueError("every number of children must be at least 1")
        parents, above = [-1], range(1)
        for count in children:
            if len(parents) + count * len(above) > MAX_TREE_NODES:
                raise ValueError(_TOO_LARGE)
            parents += [parent for parent in above for _ in range(count)]
            above = range(above.stop, len(parents))
        return TreeSpec(tuple(parents))

    @staticmethod
    def parse(text: str) -> TreeSpec:
        """A tree as users write it: the number of children by depth (`4,2,1`), or a file with `parents` in JSON.

        Raises:
            ValueError: It is neither, or no tree; the message is the rest of a sentence about it.
        """
        if all(part.strip().isdecimal() for part in text.split(",")):
            return TreeSpec.branching(*map(int, text.split(",")))
        try:
            parents = json.loads(Path(text).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError("it must be the number of children by depth, such as 4,2,1, or a JSON file") from error
        if not isinstance(parents, list) or not all(type(parent) is int for parent in parents):
            raise ValueError("the file must hold a list of integers: the parent of each node, -1 for the root")
        if len(parents) > MAX_TREE_NODES:
            raise ValueError(_TOO_LARGE)
        return TreeSpec(tuple(parents))

    def first(self, num_draft_tokens: int) -> TreeSpec:
        """Its first nodes: the root and as many draft tokens."""
        return TreeSpec(self.parents[: num_draft_tokens + 1])

    def extended(self, num_draft_tokens: int) -> TreeSpec:
        """With a chain behind its last node, so that it has at least as many draft tokens."""
        return TreeSpec((*self.parents, *range(self.num_nodes - 1, num_draft_tokens)))

    @property
    def num_nodes(self) -> int:
        """Nodes, the root included."""
        return len(self.parents)

    @property
    def is_chain(self) -> bool:
        """Whether every node is the child of the one before it."""
        return self.parents == tuple(range(-1, self.num_nodes - 1))

    @property
    def depths(self) -> tuple[int, ...]:
        """Distance of each node from the root."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(0 if parent < 0 else depths[parent] + 1)
        return tuple(depths)

    @property
    def ranks(self) -> tuple[int, ...]:
        """How many children of the same parent come before each node."""
        return tuple(self.parents[:node].count(parent) for node, parent in enumerate(self.parents))

    def nodes_in(self, larger: TreeSpec) -> list[int | None]:
        """The node of a larger tree that each node stands for, the one with the same ranks on its path; None for none.

        The nodes of a part of a tree may be in another order, but no node is before its elder siblings.
        """
        places = {place: node for node, place in enumerate(zip(larger.parents, larger.ranks, strict=True))}
        found: list[int | None] = [0]
        for parent, rank in zip(self.parents[1:], self.ranks[1:], strict=True):
            above = found[parent]
            found.append(None if above is None else places.get((above, rank)))
        return found

    def ancestors(self) -> list[list[bool]]:
        """The tree mask `[num_nodes, num_nodes]`: row i is true at i and at every ancestor of i."""
        rows: list[list[bool]] = []
        for node, parent in enumerate(self.parents):
            row = list(rows[parent]) if parent >= 0 else [False] * self.num_nodes
            row[node] = True
            rows.append(row)
        return rows

    def to_json(self) -> list[int]:
        """The parents, as the plan writes them."""
        return list(self.parents)

    @staticmethod
    def json_fields(parents: Any) -> Any:
        """The fields from the plan's form, which is the parents alone."""
        return {"parents": parents}
