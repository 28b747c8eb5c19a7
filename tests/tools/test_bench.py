"""Tests of the benchmarks' arithmetic, choices and errors; no engine runs."""

from __future__ import annotations

import importlib
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ptgc.errors import BackendError, BundleError, CheckpointError, PtgcError, StorageError, UsageError

_BENCH = Path(__file__).parents[2] / "tools" / "bench"
sys.path.insert(0, str(_BENCH))
bench_genai: Any = importlib.import_module("bench_genai")
bench_host: Any = importlib.import_module("bench_host")
build_choice: Any = importlib.import_module("build_choice")
engine_worker: Any = importlib.import_module("engine_worker")
figures: Any = importlib.import_module("figures")
genai_folder: Any = importlib.import_module("genai_folder")
genai_report: Any = importlib.import_module("genai_report")
genai_table: Any = importlib.import_module("genai_table")
host_cost: Any = importlib.import_module("host_cost")
prompt_set: Any = importlib.import_module("prompt_set")
provenance: Any = importlib.import_module("provenance")
report_output: Any = importlib.import_module("report_output")


def run(engine: str = "ptgc", mode: str = "plain", seconds: float = 1.0, **changes: Any) -> Any:
    """A run of 11 tokens, 10 of them decoded."""
    fields: dict[str, Any] = {
        "precision": "int8",
        "engine": engine,
        "mode": mode,
        "prompt": "a",
        "repeat": 0,
        "token_ids": tuple(range(11)),
        "prefill_seconds": 0.5,
        "decode_seconds": seconds,
        "rounds": 10,
        "drafted_tokens": 0,
        "accepted_tokens": 0,
        "idle_seconds": 2.0,
        "idle_cpu_seconds": 0.02,
    }
    return genai_report.Run(**{**fields, **changes})


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


class TestFigures:
    def test_spread_has_the_median_and_both_ends(self) -> None:
        assert figures.Spread.of([3, 1, 2, 10]) == figures.Spread(2.5, 1, 10)

    def test_relative_spread_is_a_share_of_the_median(self) -> None:
        assert figures.Spread.of([9, 10, 12]).relative == pytest.approx(0.3)

    def test_everyone_is_first_once_in_as_many_turns(self) -> None:
        orders = [figures.rotated("abc", turn) for turn in range(4)]
        assert orders == [list("abc"), list("bca"), list("cab"), list("abc")]

    def test_ratios_are_taken_prompt_by_prompt(self) -> None:
        assert figures.ratios({"a": 3.0, "b": 1.0}, {"b": 2.0, "a": 2.0}) == {"a": 1.5, "b": 0.5}

    @pytest.mark.parametrize(
        ("new_ids", "share"),
        [
            ([], 0.0),
            ([1, 2, 3], 0.0),
            ([1, 2, 3, 4], 1.0),
            ([9, 2, 3, 4, 5, 9, 9, 1], 0.5),
            ([1, 2, 3, 4, 5], 1.0),
        ],
    )
    def test_copied_share_counts_tokens_in_runs_of_the_prompt(self, new_ids: list[int], share: float) -> None:
        assert figures.copied_share([1, 2, 3, 4, 5], new_ids) == share


class TestGenaiReport:
    def test_the_first_token_is_not_decoding(self) -> None:
        assert run(seconds=2.0).tokens_per_second == 5.0
        assert run(rounds=4).accept_length == 2.5

    def test_speed_of_a_prompt_is_the_median_of_its_repeats(self) -> None:
        runs = [run(seconds=seconds, repeat=at) for at, seconds in enumerate((1.0, 2.0, 10.0))]
        speed = genai_report.summarize(runs, {"a": [1]})["precisions"]["int8"]["contestants"]["ptgc plain"]
        assert speed["tokens_per_second"]["median"] == 5.0
        assert speed["spread_of_repeats"] == pytest.approx((10 - 1) / 5)

    def test_ratios_have_median_and_worst_prompt(self) -> None:
        runs = [run("genai", seconds=1.0, prompt=name) for name in "abc"]
        runs += [run(seconds=seconds, prompt=name) for name, seconds in zip("abc", (0.5, 1.0, 2.0), strict=True)]
        found = genai_report.summarize(runs, {name: [1] for name in "abc"})["precisions"]["int8"]["ratios"]
        assert found["ptgc plain / genai plain"] == {
            "median": 1.0,
            "worst": 0.5,
            "best": 2.0,
            "by_prompt": {"a": 2.0, "b": 1.0, "c": 0.5},
        }

    def test_the_best_of_each_engine_are_compared_over_precisions(self) -> None:
        runs = [run("genai", seconds=2.0), run("genai", seconds=1.0, precision="int4")]
        runs += [run(seconds=1.0), run(seconds=0.5, mode="ngram"), run(seconds=4.0, precision="int4")]
        best = genai_report.summarize(runs, {"a": [1]})["best"]
        assert (best["ptgc"], best["genai"], best["median"]) == ("int8 ngram", "int4 plain", 2.0)

    def test_prompts_whose_text_changes_with_drafts_are_named(self) -> None:
        runs = [run(prompt=name, mode=mode) for name in "ab" for mode in ("plain", "ngram")]
        runs[-1] = run(prompt="b", mode="ngram", token_ids=(5,) * 11)
        found = genai_report.summarize(runs, {"a": [1], "b": [1]})["precisions"]["int8"]
        assert found["differing_prompts"] == {"ptgc ngram vs ptgc plain": ["b"]}

    def test_prompts_whose_repeats_differ_are_named(self) -> None:
        runs = [run(), run(repeat=1, token_ids=(5,) * 11)]
        found = genai_report.summarize(runs, {"a": [1]})["precisions"]["int8"]["contestants"]["ptgc plain"]
        assert found["unsteady_prompts"] == ["a"]

    def test_processor_time_of_waiting_engines_is_told(self) -> None:
        found = genai_report.summarize([run(), run("genai")], {"a": [1]})["waiting"]
        assert found["genai"] == {"cpu_seconds_a_wait": 0.02, "cpu_share": 0.01}

    def test_report_is_json_and_fits_the_tables(self) -> None:
        runs = [run(engine, mode) for engine in ("genai", "ptgc") for mode in ("plain", "ngram")]
        report = json.loads(json.dumps(genai_report.summarize(runs, {"a": [1]})))
        out = io.StringIO()
        genai_table.print_tables(report, report_output.Console(file=out, width=120))
        assert "ptgc ngram / ptgc plain" in out.getvalue()


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
        runs = [host_cost.HostRun("a", mode, 0, 11, {1: 10}, 2.0, 1.5, 1.6, 1.0) for mode in ("plain", "ngram")]
        assert list(host_cost.summarize_host_runs(runs)) == ["plain", "ngram"]


class TestProvenance:
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
    def test_paths_are_reduced_to_names(self, argument: str, shown: str) -> None:
        assert provenance.without_folders(argument) == shown

    def test_command_can_be_pasted(self) -> None:
        shown = provenance.command("tools/bench/x.py", ["--report", "/tmp/a b.json"])
        assert shown == "python tools/bench/x.py --report 'a b.json'"

    def test_it_says_nothing_of_folders_or_hosts(self, tmp_path: Path) -> None:
        bundle = SimpleNamespace(sha256="ab" * 32, path=tmp_path)
        made = provenance.provenance("tools/bench/x.py", ["--bundle", str(tmp_path)], bundle, 2)
        text = json.dumps(made)
        assert str(tmp_path.parent) not in text
        assert provenance.platform.node() not in text.split()
        assert made["threads"] == 2
        assert "ptgc" in made["packages"]

    def test_absent_packages_are_left_out(self) -> None:
        assert provenance.versions(("no-such-package",)) == {}


class TestPrompts:
    @pytest.mark.parametrize("name", ["code-edit", "chat", "story"])
    def test_committed_sets_have_twenty_prompts(self, name: str) -> None:
        assert len(prompt_set.read_entries(_BENCH / "prompts" / f"{name}.jsonl")) == 20

    @pytest.mark.parametrize(
        ("content", "problem"),
        [
            ("", "empty"),
            ('{"id": "a", "prompt": "x"}\nnot json\n[1]\n', "line 2, 3 is no prompt"),
            ('{"id": "a", "prompt": "x", "messages": []}\n', "line 1"),
            ('{"id": "a"}\n', "line 1"),
            ('{"id": "a", "prompt": "x"}\n' * 2, "same id"),
        ],
    )
    def test_bad_files_are_refused(self, tmp_path: Path, content: str, problem: str) -> None:
        file = tmp_path / "prompts.jsonl"
        file.write_text(content, encoding="utf-8")
        with pytest.raises(UsageError, match=problem):
            prompt_set.read_entries(file)

    def test_missing_file_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="--prompts"):
            prompt_set.read_entries(tmp_path / "none.jsonl")


class TestBuildChoice:
    def test_newest_build_that_holds_the_prompts_is_taken(self) -> None:
        bundle = made_bundle(made_build(max_length=512), made_build(max_length=2048), made_build(max_length=544))
        assert build_choice.newest_build(bundle, "int8", 600).manifest.id == "int8-2048"

    def test_builds_of_other_exports_or_batches_do_not_count(self) -> None:
        bundle = made_bundle(made_build(digest="other"), made_build(batch=4))
        with pytest.raises(BundleError, match="no int8 build"):
            build_choice.newest_build(bundle, "int8", 600)

    def test_every_missing_precision_is_named_with_its_command(self) -> None:
        with pytest.raises(BundleError) as error:
            build_choice.newest_builds(made_bundle(made_build()), ["float32", "int8", "int4"], 100)
        assert "ptgc build bundle --precision float32" in error.value.action
        assert "ptgc build bundle --precision int4" in error.value.action

    def test_too_short_build_says_how_long_it_must_be(self) -> None:
        with pytest.raises(BundleError, match="--max-length 1100"):
            build_choice.newest_build(made_bundle(made_build()), "int8", 1100)

    @pytest.mark.parametrize("text", ["", "int8,int3", " , "])
    def test_unknown_precisions_are_refused(self, text: str) -> None:
        with pytest.raises(UsageError, match="float32, int8"):
            build_choice.parse_precisions(text, ["float32", "int8"])

    def test_precisions_keep_their_order_and_lose_doubles(self) -> None:
        assert build_choice.parse_precisions("int4, int8,int4", ["int8", "int4"]) == ["int4", "int8"]


class TestWorker:
    def answers(self, engine: Any, *commands: object) -> list[dict[str, Any]]:
        out = io.StringIO()
        engine_worker.serve(engine, [json.dumps(command) for command in commands], out)
        return [json.loads(line) for line in out.getvalue().splitlines()]

    def test_a_text_comes_with_what_the_process_burnt_while_it_waited(self) -> None:
        engine = SimpleNamespace(generate=lambda _ids, count, _mode: {"token_ids": [1] * count})
        command = {"op": "generate", "ids": [1], "max_new_tokens": 3, "mode": "ngram"}
        answer = self.answers(engine, command)[0]
        assert answer["new_tokens"] == 3
        assert answer["idle_seconds"] >= 0
        assert answer["idle_cpu_seconds"] >= 0

    def test_errors_are_answers_and_do_not_end_the_worker(self, capsys: pytest.CaptureFixture[str]) -> None:
        engine = SimpleNamespace(generate=lambda *_: {"token_ids": [1]})
        command = {"op": "generate", "ids": [1], "max_new_tokens": 3, "mode": "plain"}
        short, unknown, memory = self.answers(engine, command, {"op": "fly"}, {"op": "memory"})
        assert "1 tokens were written, not 3" in short["error"]
        assert "fly" in unknown["error"]
        assert memory["resident_bytes"] > 0
        assert "Traceback" in capsys.readouterr().err

    def test_a_special_token_without_a_role_stands_in_for_the_end(self, tmp_path: Path) -> None:
        model = {"bos_token_id": 1, "eos_token_id": [2, 9], "pad_token_id": 2, "vocab_size": 100}
        added = [{"id": at, "special": at != 8} for at in (1, 2, 7, 8, 9)]
        (tmp_path / "genai_config.json").write_text(json.dumps({"model": model}), encoding="utf-8")
        (tmp_path / "tokenizer.json").write_text(json.dumps({"added_tokens": added}), encoding="utf-8")
        assert engine_worker.stand_in_eos(tmp_path) == 7


class TestErrors:
    def test_no_bundle_exits_with_1(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        status = bench_genai.main(["--bundle", str(tmp_path / "none"), "--model", str(tmp_path)])
        assert status == 1
        assert "There is no bundle" in capsys.readouterr().err

    def test_no_bundle_exits_with_1_for_the_host(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert bench_host.main(["--bundle", str(tmp_path / "none")]) == 1
        assert "There is no bundle" in capsys.readouterr().err

    def test_missing_genai_says_how_to_install_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(name: str) -> str:
            raise genai_folder.PackageNotFoundError(name)

        monkeypatch.setattr(genai_folder, "version", missing)
        with pytest.raises(BackendError, match=r"ptgc\[bench\]"):
            genai_folder.genai_version()

    def test_directory_without_a_model_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="fetch_models"):
            genai_folder.source_hash(tmp_path)

    def test_source_hash_follows_contents_and_names(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("{}", encoding="utf-8")
        (tmp_path / "model.safetensors").write_bytes(b"weights")
        first = genai_folder.source_hash(tmp_path)
        assert genai_folder.source_hash(tmp_path) == first
        (tmp_path / "model.safetensors").write_bytes(b"Weights")
        assert genai_folder.source_hash(tmp_path) != first

    def test_report_that_cannot_be_written_is_found_before_measuring(self, tmp_path: Path) -> None:
        with pytest.raises(StorageError, match="--report"):
            report_output.check_report(tmp_path / "none" / "report.json")

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
