"""Estimates of the memory and time of compiling."""

from __future__ import annotations

from pathlib import Path

import pytest

from ptgc.compiler.backends import compile_cost as module
from ptgc.compiler.backends.compile_cost import available_memory, estimate, require_memory
from ptgc.errors import BuildError


@pytest.mark.parametrize(
    ("megabytes", "precision", "gigabytes"),
    [(269, "float16", 1.3), (538, "float32", 2.1), (831, "float16", 3.15), (135, "int8", 1.0), (76, "int4", 0.9)],
)
def test_the_estimate_is_above_what_was_measured_and_below_half_as_much_again(
    megabytes: int, precision: str, gigabytes: float
) -> None:
    assert gigabytes <= estimate(megabytes * 10**6, precision).memory / 1e9 < 1.5 * gigabytes


def test_int8_takes_longer_than_floats() -> None:
    assert estimate(10**9, "int8").seconds > estimate(10**9, "int4").seconds > estimate(10**9, "float16").seconds


def test_memory_is_what_system_and_control_group_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(module, "_GROUP", tmp_path)
    assert available_memory() is None
    (tmp_path / "meminfo").write_text("MemTotal: 8000 kB\nMemAvailable: 4000 kB\n")
    assert available_memory() == 4000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("2000\n")
    (tmp_path / "memory.stat").write_text("anon 1500\ninactive_file 500\n")
    assert available_memory() == 4000 * 1024
    (tmp_path / "memory.max").write_text("3000\n")
    assert available_memory() == 1500


def test_too_little_memory_is_refused_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = estimate(10**9, "float16")
    monkeypatch.setattr(module, "available_memory", lambda: cost.memory - 1)
    with pytest.raises(
        BuildError, match=r"role 'target' takes about 3\.7 GB of memory and 30 s; 3\.7 GB are free"
    ) as caught:
        require_memory("target", cost)
    assert "--stage prepare here" in caught.value.action
    for enough in (cost.memory, None):
        monkeypatch.setattr(module, "available_memory", lambda amount=enough: amount)
        require_memory("target", cost)
