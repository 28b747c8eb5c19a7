"""Options are made of the fields of a dataclass."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import pytest

from ptgc.errors import UsageError
from ptgc.spec.fields import Range
from ptgc.spec.options import CheckpointName, checkpoints_of, make_options, options_of


class Colour(str, Enum):
    RED = "red"
    GREEN = "green"


@dataclass(frozen=True)
class Options:
    """What the tests choose."""

    model: CheckpointName
    """Which model."""
    count: Annotated[int, Range(1, 9)] = 3
    """How many, in
    pieces."""
    share: Annotated[float, Range(0, 1)] | None = None
    """How much."""
    colour: Colour = Colour.RED
    """Which colour."""
    quick: bool = False
    """Whether to hurry."""
    table: Path | None = None
    """Where the table is."""

    def problems(self) -> list[str]:
        return ["--quick takes no --table."] if self.quick and self.table else []


def make(**values: Any) -> Options:
    made: Options = make_options(Options, values, "toy")
    return made


def test_an_option_has_the_type_default_and_text_of_its_field() -> None:
    found = {option.name: option for option in options_of(Options)}
    assert [(option.flag, option.kind) for option in found.values()] == [
        ("--model", str),
        ("--count", int),
        ("--share", float),
        ("--colour", Colour),
        ("--quick", bool),
        ("--table", Path),
    ]
    assert found["model"].default is MISSING and found["model"].names_checkpoint
    assert found["count"].described == "How many, in pieces. Default: 3."
    assert (found["colour"].choices, found["colour"].described) == (("red", "green"), "Which colour. Default: red.")
    assert found["share"].described == "How much."


def test_values_become_those_of_the_fields() -> None:
    assert make(model="m") == Options("m")
    made = make(model="m", count=9, share=1, colour="green", quick=True, table=None)
    assert made == Options("m", 9, 1.0, Colour.GREEN, True) and isinstance(made.share, float)
    assert make(model="m", table="t").table == Path("t")
    assert make(model="m", colour=Colour.GREEN).colour is Colour.GREEN
    assert checkpoints_of(made) == {"model": "m"}


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("count", "3", "--count is '3'; it must be an integer."),
        ("count", True, "--count is True; it must be an integer."),
        ("count", None, "--count is None; it must be an integer."),
        ("count", 0, "--count is 0; it must be from 1 to 9."),
        ("share", float("nan"), "--share is nan; it must be from 0 to 1."),
        ("share", "much", "--share is 'much'; it must be a number."),
        ("colour", "blue", "--colour is 'blue'; it must be one of red, green."),
        ("colour", ["red"], "--colour is ['red']; it must be one of red, green."),
        ("quick", 1, "--quick is 1; it must be true or false."),
        ("table", 3, "--table is 3; it must be a path."),
        ("model", Path("m"), "must be a text."),
    ],
)
def test_a_value_that_is_none_is_refused(name: str, value: object, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        make(**{"model": "m", name: value})
    assert said in caught.value.message


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        make(count=0, share=2, size=3, depth=4)
    assert caught.value.message.splitlines() == [
        "Strategy 'toy' takes no --size, --depth; it has --model, --count, --share, --colour, --quick, --table.",
        "Strategy 'toy' needs --model: Which model.",
        "--count is 0; it must be from 1 to 9.",
        "--share is 2.0; it must be from 0 to 1.",
    ]
    with pytest.raises(UsageError, match="--quick takes no --table"):
        make(model="m", quick=True, table=Path("t"))
