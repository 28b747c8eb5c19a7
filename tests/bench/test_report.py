"""The results of runs: rows, ratios, differing texts."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
from rich.console import Console

from ptgc.bench.contestants import Contestant
from ptgc.bench.engines.base import Written
from ptgc.bench.report import summarize
from ptgc.bench.runs import Run
from ptgc.bench.table import print_tables

GENAI, TORCH = "onnxruntime-genai", "transformers"


def run(
    engine: str = "ptgc",
    mode: str = "plain",
    seconds: float = 1.0,
    *,
    prompt: str = "k/a",
    precision: str = "int8",
    token_ids: tuple[int, ...] = tuple(range(11)),
    repeat: int = 0,
    rounds: int = 10,
) -> Run:
    """A run of 11 tokens, 10 of them decoded."""
    written = Written(list(token_ids), 0.5, seconds, 10, rounds, host_overhead=0.01 if engine == "ptgc" else None)
    return Run(Contestant(engine, mode, precision), prompt.split("/")[0], prompt, repeat, written, 2.0, 0.02)


def report(*runs: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(summarize(runs, {one.prompt: [1] for one in runs})))
    return found


def row(found: dict[str, Any], name: str) -> dict[str, Any]:
    (one,) = [one for one in found["rows"] if one["name"] == name]
    return dict(one)


def test_speed_of_a_prompt_is_the_median_of_its_repeats() -> None:
    found = report(*(run(seconds=seconds, repeat=at) for at, seconds in enumerate((1.0, 2.0, 10.0))))
    one = row(found, "ptgc plain int8")
    assert one["tokens_per_second"] == 5.0
    assert one["spread"] == pytest.approx((10 - 1) / 5)
    assert one["runs"] == 3
    assert one["host_overhead"] == 0.01


def test_speedup_is_over_plain_decoding_of_the_same_run_prompt_by_prompt() -> None:
    runs = [run(prompt=f"k/{name}") for name in "abc"]
    seconds = (0.25, 0.5, 2.0)
    runs += [run(mode="ngram", prompt=f"k/{n}", seconds=s) for n, s in zip("abc", seconds, strict=True)]
    one = row(report(*runs), "ptgc ngram int8")
    assert (one["speedup"], one["worst_speedup"]) == (2.0, 0.5)


def test_a_plain_bundle_is_the_baseline_where_there_is_one() -> None:
    found = report(run(seconds=1.0), run("autoregressive", seconds=0.5), run(mode="ngram", seconds=0.25))
    assert row(found, "ptgc ngram int8")["speedup"] == 2.0
    assert row(found, "ptgc plain int8")["speedup"] == 0.5
    assert row(found, "autoregressive int8")["speedup"] == 1.0


def test_a_peer_at_another_precision_is_measured_against_the_only_plain_decoding() -> None:
    found = report(run(seconds=1.0), run(TORCH, seconds=4.0, precision="float32"))
    assert row(found, "transformers plain float32")["speedup"] == 0.25
    several = report(run(), run(precision="int4"), run(TORCH, precision="float32"))
    assert row(several, "transformers plain float32")["speedup"] is None


def test_accept_length_is_of_all_runs_of_a_row() -> None:
    found = report(run(mode="ngram", rounds=5), run(mode="ngram", rounds=3, prompt="k/b"))
    assert row(found, "ptgc ngram int8")["mean_accept_length"] == 20 / 8


def test_sets_have_figures_of_their_own() -> None:
    found = report(run(prompt="chat/a", seconds=1.0), run(prompt="code/a", seconds=2.0))
    kinds = row(found, "ptgc plain int8")["kinds"]
    assert {kind: one["tokens_per_second"] for kind, one in kinds.items()} == {"chat": 10.0, "code": 5.0}


def test_ratios_have_median_and_worst_prompt() -> None:
    runs = [run(GENAI, prompt=f"k/{name}") for name in "abc"]
    runs += [run(prompt=f"k/{n}", seconds=s) for n, s in zip("abc", (0.5, 1.0, 2.0), strict=True)]
    assert report(*runs)["ratios"]["ptgc plain int8 / onnxruntime-genai plain int8"] == {
        "median": 1.0,
        "worst": 0.5,
        "best": 2.0,
        "by_prompt": {"k/a": 2.0, "k/b": 1.0, "k/c": 0.5},
    }


def test_precisions_meet_only_where_the_peer_has_both() -> None:
    runs = [run(engine, precision=precision) for engine in ("ptgc", GENAI) for precision in ("int8", "int4")]
    ratios = report(*runs, run(TORCH, precision="float32"))["ratios"]
    assert set(ratios) == {
        "ptgc plain int8 / onnxruntime-genai plain int8",
        "ptgc plain int4 / onnxruntime-genai plain int4",
        "ptgc plain int8 / transformers plain float32",
        "ptgc plain int4 / transformers plain float32",
    }


def test_the_best_of_each_engine_are_compared_over_precisions() -> None:
    runs = [run(GENAI, seconds=2.0), run(GENAI, seconds=1.0, precision="int4")]
    runs += [run(seconds=1.0), run(mode="ngram", seconds=0.5), run(seconds=4.0, precision="int4")]
    best = report(*runs)["best"][GENAI]["all"]
    assert (best["ours"], best["theirs"]) == ("ptgc ngram int8", "onnxruntime-genai plain int4")
    assert best["median"] == 2.0


def test_prompts_whose_text_changes_with_drafts_are_named() -> None:
    runs = [run(prompt=f"k/{name}", mode=mode) for name in "ab" for mode in ("plain", "ngram")]
    runs[-1] = run(prompt="k/b", mode="ngram", token_ids=(5,) * 11)
    assert report(*runs)["differing_prompts"] == {"ptgc ngram int8 vs ptgc plain int8": ["k/b"]}


def test_prompts_whose_repeats_differ_are_named() -> None:
    found = report(run(), run(repeat=1, token_ids=(5,) * 11))
    assert row(found, "ptgc plain int8")["unsteady_prompts"] == ["k/a"]


def test_processor_time_of_waiting_engines_is_told() -> None:
    assert report(run(), run(GENAI))["waiting"][GENAI] == {"cpu_seconds_a_wait": 0.02, "cpu_share": 0.01}


def test_a_report_fits_the_tables() -> None:
    engines = (("ptgc", "plain"), ("ptgc", "ngram"), (GENAI, "plain"), (GENAI, "draft"))
    out = io.StringIO()
    print_tables(report(*(run(*one) for one in engines)), Console(file=out, width=120))
    assert "ptgc ngram int8 / onnxruntime-genai draft int8" in out.getvalue()
    assert "k: decoding" in out.getvalue()
