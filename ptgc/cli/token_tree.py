"""Draws token trees as text."""

from __future__ import annotations

from collections.abc import Sequence

from ptgc.cli.console import results
from ptgc.spec.tree import TreeSpec


def tree_lines(tree: TreeSpec, gains: Sequence[float]) -> list[str]:
    """A drawing of a tree, with the probability that each draft is accepted; a line ends with a leaf.

    ```
    1.00 - 0.62 - 0.41 - 0.30
         |      ` 0.09
         ` 0.17 - 0.08
    ```
    """
    children: dict[int, list[int]] = {}
    for node, parent in enumerate(tree.parents):
        children.setdefault(parent, []).append(node)
    values = (1.0, *gains)

    def block(node: int) -> list[str]:
        label = f"{values[node]:.2f}"
        lines = []
        below = children.get(node, [])
        for number, child in enumerate(below):
            is_last = number == len(below) - 1
            first = f"{label} - " if number == 0 else "     ` " if is_last else "     + "
            other = "       " if is_last else "     | "
            lines += [(first if row == 0 else other) + line for row, line in enumerate(block(child))]
        return lines or [label]

    return block(0)


def show_tree(name: str, tree: TreeSpec, gains: Sequence[float]) -> None:
    """Print the tree that a build's drafts fill."""
    title = (
        f"tree of {name} here: {len(gains)} drafts, {1 + sum(gains):.2f} tokens a round expected if all are verified"
    )
    for line in (title, *tree_lines(tree, gains)):
        results.print(line, markup=False, highlight=False, soft_wrap=True)
