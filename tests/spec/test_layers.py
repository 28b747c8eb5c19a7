"""Layers as users write them, and the options and plans that hold them."""

from __future__ import annotations

from typing import Any

import pytest

from ptgc.errors import UsageError
from ptgc.spec.fields import read
from ptgc.spec.json_file import UnreadableError
from ptgc.spec.layers import LayerSets, spell_layers
from ptgc.spec.options import make_options
from ptgc.spec.plan import DecodePlan
from ptgc.spec.strategies import find_strategy
from ptgc.spec.strategies.layer_skip import LayerSkipOptions, layer_subsets
from ptgc.spec.strategies.merged import Lookup


@pytest.mark.parametrize(
    ("text", "given", "searched"),
    [
        ("7", ((7,),), ()),
        ("0-3", ((0, 1, 2, 3),), ()),
        (" 0-2, 5 ,7-8", ((0, 1, 2, 5, 7, 8),), ()),
        ("0-1/0,2", ((0, 1), (0, 2)), ()),
        ("auto", (), (None,)),
        ("0/auto:8/auto", ((0,),), (8, None)),
    ],
)
def test_subsets_are_read_and_spelled(
    text: str, given: tuple[tuple[int, ...], ...], searched: tuple[int | None, ...]
) -> None:
    sets = LayerSets.parse(text)
    assert (sets.given, sets.searched) == (given, searched)
    assert LayerSets.parse(str(sets)) == sets
    assert [spell_layers(one) for one in given] == [one for one in str(sets).split("/") if "auto" not in one]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", ["a subset is empty"]),
        ("0-1//2", ["a subset is empty"]),
        ("first", ["'first' is no list of layers"]),
        ("-1", ["'-1' is no list of layers"]),
        ("0-", ["'0-' is no list of layers"]),
        ("auto:0", ["'auto:0' is no list of layers"]),
        ("auto:4097", ["'auto:4097' is no list of layers"]),
        ("3-1", ["'3-1' ends before it begins"]),
        ("4096", ["layer 4096 is above 4095"]),
        ("5,3/1,1/2/2", ["layer 3 follows 5 in '5,3'", "layer 1 is named twice in '1,1'", "the same layers twice"]),
        ("auto/auto", ["the same layers twice"]),
        ("/".join(map(str, range(17))), ["17 subsets; at most 16"]),
    ],
)
def test_what_is_no_subset_is_refused_with_every_problem(text: str, said: list[str]) -> None:
    with pytest.raises(ValueError, match=said[0].replace("(", r"\(")) as caught:
        LayerSets.parse(text)
    assert all(part in str(caught.value) for part in said)


def test_layers_are_given_once() -> None:
    strategy = find_strategy("layer-skip")
    for values, said in (
        ({}, "needs --num-layers, or --layers"),
        ({"num_layers": 4, "layers": "0-1"}, r"--num-layers is 4, and --layers is 0-1; .*--layers 0-3\."),
        ({"layers": "1,0"}, "--layers is '1,0': layer 0 follows 1"),
        ({"num_layers": 0}, "--num-layers is 0"),
    ):
        with pytest.raises(UsageError, match=said):
            make_options(strategy.options, values, strategy.name)


def test_each_subset_is_a_role_of_its_own() -> None:
    drafter = layer_subsets([(0, 1), (0, 3)], 4).drafter
    assert drafter.roles == drafter.alternatives == ("drafter", "drafter_2")
    assert drafter.describe("drafter_2") == "layers 0,3"
    assert LayerSkipOptions(num_layers=2).sets.given == ((0, 1),)


@pytest.mark.parametrize("lookup", Lookup)
def test_plans_are_read_as_they_are_written(lookup: Lookup) -> None:
    strategy = find_strategy("layer-skip")
    options = LayerSkipOptions(layers=LayerSets.parse("0-2/0,2"), lookup=lookup)
    assert strategy.plan is not None
    plan = strategy.plan(options, None)  # type: ignore[arg-type]  # it needs no facts
    data = plan.to_json() | {"strategy": "layer-skip", "guarantee": "lossless"}
    assert read(DecodePlan, data) == plan
    assert plan.drafter.alternatives == ("drafter", "drafter_2")


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ([], "layers has 0 entries"),
        ([[]], r"layers\[0\] has 0 entries"),
        ([[1, 0], [1, 1]], r"layers\[0\] must ascend; .*layers\[1\] must ascend"),
        ([[0], [1], [0]], r"layers\[2\] are those of layers\[0\]"),
        ([[-1], [4096]], r"layers\[0\]\[0\] is -1.*layers\[1\]\[0\] is 4096"),
        ([[0]] * 17, "layers has 17 entries"),
        ("0-3", "layers is '0-3'; it must be a list"),
    ],
)
def test_damaged_layers_of_a_plan_are_refused(layers: object, said: str) -> None:
    data: dict[str, Any] = layer_subsets([(0,)]).to_json() | {"strategy": "layer-skip", "guarantee": "lossless"}
    data["drafter"]["layers"] = layers
    with pytest.raises(UnreadableError, match=said):
        read(DecodePlan, data)
