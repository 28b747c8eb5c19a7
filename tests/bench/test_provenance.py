"""Which facts about its origin a report contains, and which it must not."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ptgc.bench.options import BenchOptions
from ptgc.bench.provenance import command, machine, provenance, versions, without_folders


@pytest.mark.parametrize(
    ("argument", "shown"),
    [
        ("--repeats", "--repeats"),
        ("3", "3"),
        ("/home/somebody/bundles/smol", "smol"),
        ("../smol/", "smol"),
        ("--bundle=/home/somebody/smol", "--bundle=smol"),
        ("--precision=int8,int4", "--precision=int8,int4"),
        ("/", "root"),
    ],
)
def test_paths_are_reduced_to_names(argument: str, shown: str) -> None:
    assert without_folders(argument) == shown


def test_a_command_can_be_pasted() -> None:
    shown = command(["ptgc", "bench"], ["b", "--report", "/tmp/a b.json"])
    assert shown == "ptgc bench b --report 'a b.json'"


def test_options_give_the_command_line_that_says_the_same() -> None:
    options = BenchOptions(builds=("x", "y"), prompts=("/some/where/mine.jsonl",), model=Path("/m/smol"), repeats=2)
    shown = command(["ptgc", "bench"], options.arguments(Path("/b/smol")))
    wanted = "smol --model smol --max-new-tokens 96 --repeats 2 --build x,y --prompts mine.jsonl"
    assert shown == f"ptgc bench {wanted}"


def test_it_says_nothing_of_folders_or_hosts(tmp_path: Path) -> None:
    bundle: Any = SimpleNamespace(sha256="ab" * 32, path=tmp_path)
    made = provenance(["python", "tools/bench/x.py"], ["--bundle", str(tmp_path)], bundle, 2)
    text = json.dumps([made, machine()])
    assert str(tmp_path.parent) not in text
    assert platform.node() not in text.split()
    assert made["threads"] == 2
    assert "ptgc" in made["packages"]


def test_absent_packages_are_left_out() -> None:
    assert versions(("no-such-package",)) == {}
