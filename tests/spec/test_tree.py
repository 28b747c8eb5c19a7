"""Token trees as users write them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from ptgc.errors import UsageError
from ptgc.spec.options import make_options
from ptgc.spec.strategies.draft_model import DraftModelOptions, draft_model
from ptgc.spec.strategies.eagle3 import Eagle3Options
from ptgc.spec.strategies.medusa import medusa
from ptgc.spec.tree import TreeSpec


@pytest.mark.parametrize(
    ("text", "parents"),
    [
        ("3", (-1, 0, 0, 0)),
        ("2, 2,1", (-1, 0, 0, 1, 1, 2, 2, 3, 4, 5, 6)),
        ("1,1", (-1, 0, 1)),
    ],
)
def test_children_by_depth_make_a_tree(text: str, parents: tuple[int, ...]) -> None:
    assert TreeSpec.parse(text).parents == parents


def test_a_file_has_the_parents(tmp_path: Path) -> None:
    (tmp_path / "tree.json").write_text("[-1, 0, 0, 1]")
    made = make_options(Eagle3Options, {"drafter": "x", "tree": str(tmp_path / "tree.json")}, "eagle3")
    assert made.tree == TreeSpec((-1, 0, 0, 1))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0", "every number of children must be at least 1"),
        ("4,0,1", "every number of children must be at least 1"),
        ("100,100", "more than the"),
        ("2000000000", "more than the"),
        ("4;2", "it must be the number of children by depth, such as 4,2,1, or a JSON file"),
        ("", "or a JSON file"),
        ("nothing.json", "or a JSON file"),
    ],
)
def test_what_is_no_tree_is_refused(text: str, said: str) -> None:
    with pytest.raises(UsageError, match="--tree is .*" + said):
        make_options(DraftModelOptions, {"drafter": "x", "tree": text}, "draft-model")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{}", "a list of integers"),
        ("[-1, true]", "a list of integers"),
        ("[-1, 2, 0]", "node 1 has parent 2; a parent must come before its children"),
        ("[0, 1]", "a tree starts with its root"),
        ("[]", "a tree starts with its root"),
        ("[-1, 0, 1, 0]", "in the order of their depths"),
        ("[" * 100_000, "or a JSON file"),
        (str([-1] + [0] * 5000), "more than the"),
    ],
)
def test_files_without_a_tree_are_refused(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "tree.json").write_text(content)
    with pytest.raises(UsageError, match=said):
        make_options(DraftModelOptions, {"drafter": "x", "tree": str(tmp_path / "tree.json")}, "draft-model")


@pytest.mark.parametrize("other", [{"acceptance": "block"}, {"drafter_vocabulary": "re-encoded"}])
def test_a_tree_does_not_go_with_everything(other: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="--tree"):
        make_options(DraftModelOptions, {"drafter": "x", "tree": "2,2"} | other, "draft-model")


@pytest.mark.parametrize("shape", [{}, {"tree": "1,1,1"}])
def test_a_dynamic_tree_needs_a_size(shape: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="--dynamic-tree needs --tree"):
        make_options(DraftModelOptions, {"drafter": "x", "dynamic_tree": True} | shape, "draft-model")


def test_only_some_drafters_choose_their_tree() -> None:
    tree = TreeSpec.branching(2, 2)
    assert replace(draft_model(tree=tree), dynamic_tree=True).problems() == []
    assert replace(draft_model(3), dynamic_tree=True).problems() == ["dynamic_tree is true; tree is a chain"]
    assert replace(medusa(tree), dynamic_tree=True).problems() == [
        "dynamic_tree is true, which drafter heads does not draft"
    ]


def test_nodes_of_a_part_are_found_by_the_ranks_on_their_paths() -> None:
    whole = TreeSpec((-1, 0, 0, 1, 1, 2))
    assert TreeSpec((-1, 0, 1, 0, 1, 3)).nodes_in(whole) == [0, 1, 3, 2, 4, 5]
    assert TreeSpec((-1, 0, 0, 0, 3, 2, 2)).nodes_in(whole) == [0, 1, 2, None, None, 5, None]
    assert TreeSpec.chain(3).nodes_in(whole) == [0, 1, 3, None]
