"""Tests of the scripts under tools/bench: arithmetic, choices and errors; no engine runs."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ptgc.errors import BundleError, PtgcError, UsageError

_BENCH = Path(__file__).parents[2] / "tools" / "bench"
sys.path.insert(0, str(_BENCH))
bench_host: Any = importlib.import_module("bench_host")
build_choice: Any = importlib.import_module("build_choice")
host_cost: Any = importlib.import_module("host_cost")
report_output: Any = importlib.import_module("report_output")


def made_build(precision: str = "int8", max_length: int = 1024, batch: int = 1, digest: str = "same") -> Any:
    shapes = SimpleNamespace(max_length=max_length, batch=batch)
    manifest = SimpleNamespace(
        id=f"{precision}-{max_length}",
        precision={"target": precision},
        shapes=shapes,
        device="cpu",
        bundle_sha256=digest,
    )
    return SimpleNamespace(manifest=manifest, path=Path("bundle/builds/x"))


def made_bundle(*builds: Any) -> Any:
    return SimpleNamespace(builds=lambda: list(builds), sha256="same", path=Path("bundle"))


class TestHostCost:
    def test_rounds_up_to_the_first_token_are_prefill(self) -> None:
        trace = [SimpleNamespace(width=width, emitted_ids=ids) for width, ids in ((128, []), (32, [7]), (1, [8]))]
        assert [round_.width for round_ in host_cost.decode_rounds(trace)] == [1]

    def test_bare_runs_are_weighed_by_how_often_their_width_occurs(self) -> None:
        assert host_cost.bare_sum({1: 3, 4: 1}, {1: [1.0, 2.0, 9.0], 4: [5.0]}) == 11.0

    def test_ratio_splits_into_engine_and_host(self) -> None:
        one = host_cost.HostRun("a", "plain", 0, 11, {1: 10}, 1.02, 1.01, 1.015, 1.0)
        assert one.ratio == pytest.approx(1.02)
        assert one.engine_ratio == pytest.approx(1.01)
        assert one.host_microseconds == pytest.approx(1000)

    def test_modes_are_summed_up_apart(self) -> None:
        runs = [host_cost.HostRun("a", mode, 0, 11, {1: 10}, 2.0, 1.5, 1.6, 1.0) for mode in ("plain", "drafts")]
        assert list(host_cost.summarize_host_runs(runs)) == ["plain", "drafts"]


class TestBuildChoice:
    def test_newest_build_that_holds_the_prompts_is_taken(self) -> None:
        bundle = made_bundle(made_build(max_length=512), made_build(max_length=2048), made_build(max_length=544))
        assert build_choice.newest_build(bundle, "int8", 600).manifest.id == "int8-2048"

    def test_builds_of_other_exports_or_batches_do_not_count(self) -> None:
        bundle = made_bundle(made_build(digest="other"), made_build(batch=4))
        with pytest.raises(BundleError, match="no int8 build"):
            build_choice.newest_build(bundle, "int8", 600)

    def test_too_short_build_says_how_long_it_must_be(self) -> None:
        with pytest.raises(BundleError, match="--max-length 1100"):
            build_choice.newest_build(made_bundle(made_build()), "int8", 1100)

    @pytest.mark.parametrize("text", ["", "int8,int3", " , "])
    def test_unknown_precisions_are_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="float32, int8"):
            build_choice.parse_precisions(text, ["float32", "int8"])

    def test_precisions_keep_their_order_and_lose_doubles(self) -> None:
        assert build_choice.parse_precisions("int4, int8,int4", ["int8", "int4"]) == ["int4", "int8"]


class TestErrors:
    def test_no_bundle_exits_with_1_for_the_host(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert bench_host.main(["--bundle", str(tmp_path / "none")]) == 1
        assert "There is no bundle" in capsys.readouterr().err

    def test_errors_are_printed_without_a_traceback(self, capsys: pytest.CaptureFixture[str]) -> None:
        def fail() -> None:
            raise PtgcError("It failed.", "Do this.")

        with report_output.report_errors() as status:
            fail()
        assert status.code == 1
        assert capsys.readouterr().err == "Error: It failed.\nDo this.\n"

    def test_capacity_needs_two_builds_and_says_how_to_make_them(self, capsys: pytest.CaptureFixture[str]) -> None:
        options = SimpleNamespace(long_build=None, short_build=None)
        notes = report_output.Console(stderr=True)
        assert bench_host.capacity_pair(made_bundle(made_build(max_length=4096)), options, notes) is None
        assert "--max-length 544" in capsys.readouterr().err

    def test_capacity_takes_builds_of_one_precision(self) -> None:
        builds = [made_build("int4", 544), made_build("int8", 544), made_build("int4", 544), made_build("int8", 4096)]
        options = SimpleNamespace(long_build=None, short_build=None)
        pair = bench_host.capacity_pair(made_bundle(*builds), options, None)
        assert [build.manifest.id for build in pair] == ["int8-4096", "int8-544"]
