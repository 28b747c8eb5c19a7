"""A kill, a full disk and a second process leave nothing half-written."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ptgc.errors import StorageError
from ptgc.spec.bundle import open_bundle
from ptgc.spec.staging import staged_directory
from tests.bundles import ROOT, build_id, own_copy
from tests.models import save, tiny_model

SCRIPT = "tests.cli.kill_points"


def python(*arguments: object, limit: int | None = None) -> subprocess.Popen[str]:
    """Run Python on the source tree, with an optional limit on file size."""

    def before() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, *(str(argument) for argument in arguments)]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=before
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


@pytest.fixture
def bundle(place: Path, tmp_path: Path) -> Path:
    return own_copy(place, tmp_path / "bundle")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny_model("llama"), tmp_path_factory.mktemp("checkpoint"))


@pytest.mark.parametrize(
    ("kind", "job"), [("kill", "export"), ("kill", "compile"), ("full", "compile"), ("full", "pack")]
)
def test_a_failure_at_any_change_leaves_the_old_state_or_the_new_one(kind: str, job: str, bundle: Path) -> None:
    code, out, err = finish(python("-m", SCRIPT, kind, job, bundle.parent))
    assert code == 0, err
    failures, left = (int(part) for part in out.split())
    assert failures >= 6
    assert left <= (2 if kind == "kill" else 0)  # of the last one, after its rename


def build(bundle: Path, *options: object, limit: int | None = None) -> subprocess.Popen[str]:
    return python("-m", "ptgc", "build", bundle, "--stage", "prepare", *options, limit=limit)


def test_two_builds_at_once_are_both_made(bundle: Path) -> None:
    processes = [build(bundle, "--precision", precision) for precision in ("int8", "int4", "float32")]
    for code, _, err in map(finish, processes):
        assert code == 0, err
    builds = open_bundle(bundle).builds()
    assert len(builds) == 4
    assert sorted(one.manifest.sequence for one in builds) == [0, 1, 2, 3]
    for one in builds:
        one.verify()


def test_two_builds_of_one_name_leave_one_whole_build_and_one_clear_error(bundle: Path) -> None:
    finished = [finish(process) for process in [build(bundle, "--id", "same") for _ in range(2)]]
    assert sorted(code for code, _, _ in finished) == [0, 1]
    message = next(err for code, _, err in finished if code == 1)
    assert "exists already" in message
    assert "Traceback" not in message
    open_bundle(bundle).build("same").verify()


def test_a_full_disk_leaves_the_bundle_as_it_was(bundle: Path) -> None:
    code, _, err = finish(build(bundle, "--precision", "int8", limit=20_000))
    assert code == 1, err
    assert "Cannot write" in err
    assert "Traceback" not in err
    assert len(open_bundle(bundle).builds()) == 1
    assert [path.name for path in (bundle / "builds").iterdir()] == [build_id("float32", 1)]


def test_an_export_to_a_full_disk_leaves_nothing(checkpoint: Path, tmp_path: Path) -> None:
    code, _, err = finish(python("-m", "ptgc", "export", checkpoint, "-o", tmp_path / "b", limit=50_000))
    assert code == 1, err
    assert "Cannot write" in err
    assert list(tmp_path.iterdir()) == []


def test_a_second_writer_of_one_name_is_refused_at_the_end(tmp_path: Path) -> None:
    def write(text: str, meanwhile: Callable[[], None] = lambda: None) -> None:
        with staged_directory(tmp_path / "x", replace=False) as folder:
            (folder / "a").write_text(text)
            meanwhile()

    with pytest.raises(StorageError, match="exists already"):
        write("1", meanwhile=lambda: write("2"))
    assert (tmp_path / "x" / "a").read_text() == "2"
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_replacing_swaps_whole_directories(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with staged_directory(tmp_path / "x", replace=True) as folder:
            (folder / text).write_text(text)
    assert [path.name for path in (tmp_path / "x").iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
