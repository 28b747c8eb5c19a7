"""Token trees as text."""

from __future__ import annotations

from ptgc.cli.token_tree import tree_lines
from ptgc.spec.tree import TreeSpec


def test_every_line_of_a_tree_ends_with_a_leaf() -> None:
    tree = TreeSpec((-1, 0, 1, 0, 3, 1, 0))
    assert tree_lines(tree, (0.5, 0.3, 0.2, 0.1, 0.08, 0.05)) == [
        "1.00 - 0.50 - 0.30",
        "     |      ` 0.08",
        "     + 0.20 - 0.10",
        "     ` 0.05",
    ]
    assert tree_lines(TreeSpec.chain(0), ()) == ["1.00"]
