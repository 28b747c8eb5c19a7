"""`make gpu`, rehearsed on the CPU: the report, and what happens when a part fails or takes too long."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.bundles import tiny_bundle
from tests.tools.gpu_scripts import base, gpu_bundles, parts, run, task, write_bundles

pytestmark = pytest.mark.slow
MODEL, BROKEN = "stories15m", "zz-broken"


@pytest.fixture(scope="module")
def bundles(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive, a folder in the place of the real model, and a bundle that cannot be opened."""
    folder = tmp_path_factory.mktemp("gpu-bundles")
    shutil.copytree(tiny_bundle(place, "llama"), folder / MODEL)
    write_bundles.write("ctc", folder)
    broken = folder / BROKEN
    broken.mkdir()
    (broken / "manifest.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def rehearsal(bundles: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, Any]]:
    """The exit status and the report of a whole rehearsal."""
    output = tmp_path_factory.mktemp("gpu-report") / "report.json"
    status = run.main(["--device", "cpu", "--small", "--bundles", str(bundles), "--output", str(output)])
    return status, json.loads(output.read_text(encoding="utf-8"))


def test_report_says_what_was_run_and_on_what(rehearsal: tuple[int, dict[str, Any]]) -> None:
    _, report = rehearsal
    assert (report["schema"], report["device"], report["small"]) == (run.SCHEMA, "cpu", True)
    assert report["machine"]["host"]["cores"] > 0
    assert "CPUExecutionProvider" in report["machine"]["onnxruntime"]["providers"]
    assert "/" not in report["command"].replace("tools/gpu/run.py", "")
    for entry in report["parts"].values():
        assert entry["status"] in ("ok", "failed", "skipped", "out of time")
        assert entry["seconds"] >= 0
        assert (entry["status"] == "ok") == ("error" not in entry)


def test_a_part_that_fails_does_not_stop_the_others(rehearsal: tuple[int, dict[str, Any]]) -> None:
    status, report = rehearsal
    failed = [name for name, entry in report["parts"].items() if entry["status"] == "failed"]
    assert failed == [f"exactness/{BROKEN}"], [report["parts"][name]["error"] for name in failed]
    assert "manifest" in report["parts"][failed[0]]["error"]
    assert list(report["parts"])[-1] == failed[0]  # it ran last, as the least informative bundle
    assert status == 1


@pytest.mark.parametrize("bundle", [MODEL, "ctc"])
def test_texts_are_those_of_pytorch(bundle: str, rehearsal: tuple[int, dict[str, Any]]) -> None:
    checks = rehearsal[1]["parts"][f"exactness/{bundle}"]["checks"]
    assert [found["variant"] for found in checks] == ["onnxruntime float32", "onnxruntime int4"]
    assert checks[0]["kept"] == checks[0]["tokens"] > 0
    assert all(not found["problems"] for found in checks)


def test_drafts_and_samples_equal_plain_decoding(rehearsal: tuple[int, dict[str, Any]]) -> None:
    for found in rehearsal[1]["parts"][f"exactness/{MODEL}"]["checks"]:
        assert found["drafted_equal"] == found["sampled_equal"] == 3
        assert found["rounds"] > 0


@pytest.mark.parametrize("part", ["rounds/float32", "large_model/float32"])
def test_rounds_are_measured_against_the_floor(part: str, rehearsal: tuple[int, dict[str, Any]]) -> None:
    report = rehearsal[1]
    entry = report["parts"][part]
    assert report["parts"]["bandwidth"]["bytes_per_second"] > 0
    assert {"1", "128"} <= set(entry["widths"])
    for found in entry["widths"].values():
        assert found["floor_share"] == pytest.approx(found["floor_seconds"] / found["seconds"]["median"])
    for mode in ("plain", "drafts"):
        assert entry[mode]["rounds"] > 0
        assert entry[mode]["host_microseconds"]["median"] > 0
    assert entry["plain"]["accept_length"] == 1
    assert entry["bytes_read"] > 0


def test_the_large_model_is_exported_first(rehearsal: tuple[int, dict[str, Any]]) -> None:
    found = rehearsal[1]["parts"]
    assert found["large_model/export"]["parameters"] > 0
    assert found["large_model/export"]["steps"]
    # A table of embeddings is not read as a whole.
    assert found["large_model/float32"]["bytes_read"] < found["large_model/float32"]["weight_bytes"]


def test_peers_write_the_same_text(rehearsal: tuple[int, dict[str, Any]]) -> None:
    entry = rehearsal[1]["parts"]["peers"]
    assert [row["name"] for row in entry["rows"]] == [
        "ptgc, plain",
        "transformers, dynamic cache",
        "transformers, static cache",
    ]
    assert all(row["same_tokens"] == entry["new_tokens"] for row in entry["rows"][1:])


def settings(tmp_path: Path, **values: Any) -> Any:
    return base.Settings(device="cpu", work=str(tmp_path), small=True, **values)


def test_a_part_that_takes_too_long_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(parts.PARTS, "machine", parts.Part("machine", 0.01))
    entry = task.run_task(task.Task("machine"), settings(tmp_path), 100.0)
    assert entry["status"] == "out of time"


def test_a_part_whose_modules_are_missing_is_left_to_its_own_process(tmp_path: Path) -> None:
    assert parts.Part("not_here", 10).subjects(settings(tmp_path)) == [""]


def test_no_part_is_started_when_no_time_is_left(tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    assert run.main(["--device", "cpu", "--small", "--budget", "0", "--only", "machine", "--output", str(output)]) == 1
    entry = json.loads(output.read_text(encoding="utf-8"))["parts"]["machine"]
    assert (entry["status"], entry["seconds"]) == ("out of time", 0.0)


def test_a_part_without_bundles_says_what_it_needs(tmp_path: Path) -> None:
    output = tmp_path / "report.json"
    only = "exactness,rounds"
    assert run.main(["--device", "cpu", "--small", "--only", only, "--output", str(output)]) == 0
    report = json.loads(output.read_text(encoding="utf-8"))
    assert {entry["status"] for entry in report["parts"].values()} == {"skipped"}
    assert all("write_bundles.py" in entry["error"] for entry in report["parts"].values())


def test_a_process_that_crashes_leaves_its_figures(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    base.Figures(path).put(measured=3)
    with (tmp_path / "log").open("w+") as log:
        log.write("out of memory")
        entry = task._entry(-11, 10.0, path, log)
    assert (entry["status"], entry["measured"]) == ("failed", 3)
    assert "SIGSEGV" in entry["error"] and "out of memory" in entry["error"]


def test_without_a_device_nothing_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse() -> None:
        raise base.Skipped("There is no CUDA driver.")

    monkeypatch.setattr(run, "require_device", refuse)
    assert run.main(["--output", str(tmp_path / "report.json")]) == 1
    assert "--device cpu" in capsys.readouterr().err
    assert not (tmp_path / "report.json").exists()


@pytest.mark.parametrize("arguments", [["--only", "speed"], ["--bundles", "nowhere"], ["--device", "tpu"]])
def test_wrong_options_are_refused(arguments: list[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        run.main(["--output", str(tmp_path / "report.json"), *arguments])
    assert ended.value.code == 2


def test_the_real_model_comes_first_and_the_rest_last(bundles: Path, tmp_path: Path) -> None:
    assert gpu_bundles.bundle_names(str(bundles)) == [MODEL, "ctc", BROKEN]
    order = [one.name for one in run.tasks(settings(tmp_path, bundles=str(bundles)), None)]
    assert order.index(f"exactness/{MODEL}") < order.index("rounds/float32") < order.index("exactness/ctc")
