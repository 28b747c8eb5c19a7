"""The meaning of --precision."""

from __future__ import annotations

import pytest

from ptgc.compiler.precision.precision import of_role, parts_of, read_precision, spell
from ptgc.errors import BuildError

PAIR = ["target", "drafter"]


@pytest.mark.parametrize(
    ("text", "found", "name"),
    [
        ("int8", {"target": "int8", "drafter": "int8"}, "int8"),
        ("drafter=int8,target=int4", {"target": "int4", "drafter": "int8"}, "int4-int8"),
        ("drafter=int8", {"target": "auto", "drafter": "int8"}, "auto-int8"),
        ("int4, drafter=int8", {"target": "int4", "drafter": "int8"}, "int4-int8"),
        ("drafter=int8,int4", {"target": "int4", "drafter": "int8"}, "int4-int8"),
        (
            "int4,head=int8",
            {"target": "int4", "drafter": "int4", "target.head": "int8", "drafter.head": "int8"},
            "int4-head-int8",
        ),
        (
            "int4,target.head=int8,embedding=float32,drafter.embedding=int4",
            {"target": "int4", "drafter": "int4", "target.head": "int8", "target.embedding": "float32"},
            "int4-embedding-float32-head-int8",
        ),
        ("int8,head=int8", {"target": "int8", "drafter": "int8"}, "int8"),
    ],
)
def test_what_names_more_wins(text: str, found: dict[str, str], name: str) -> None:
    assert read_precision(text, PAIR) == found
    assert spell(found, PAIR) == name


@pytest.mark.parametrize(
    "text", ["", "target=", "=int8", "encoder=int8", "target.body=int8", "encoder.head=int8", "int8,int4", "a=b=c", ","]
)
def test_what_says_nothing_is_refused_with_the_roles(text: str) -> None:
    with pytest.raises(BuildError, match="target, drafter") as caught:
        read_precision(text, PAIR)
    assert "ROLE=PRECISION" in caught.value.action


def test_parts_are_those_that_differ() -> None:
    precision = read_precision("int4,target.head=int8", PAIR)
    assert parts_of(precision, "target") == {"head": "int8"}
    assert parts_of(precision, "drafter") == {}
    assert of_role(precision, "target") == {"target": "int4", "target.head": "int8"}
