"""Directories that appear complete or not at all, and leftovers of killed writers."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ptgc.errors import StorageError
from ptgc.spec import staging
from ptgc.spec.interruption import Interrupted, uninterrupted
from ptgc.spec.staging import PREFIX, locked, passing_directory, staged_directory, sweep


def in_a_child(work: Callable[[], None]) -> int:
    """Run something in a separate process, which is then killed; return its process id."""
    pid = os.fork()
    if pid == 0:
        work()
        os.kill(os.getpid(), signal.SIGKILL)
    return pid


def half_written(final: Path) -> None:
    with staged_directory(final, replace=True) as folder:
        (folder / "half").write_text("x")
        os.kill(os.getpid(), signal.SIGKILL)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_a_killed_process_left_goes_whatever_its_name_was(tmp_path: Path) -> None:
    os.waitpid(in_a_child(lambda: half_written(tmp_path / "one")), 0)
    assert len(names(tmp_path)) == 2
    with staged_directory(tmp_path / "other", replace=False):
        pass
    assert names(tmp_path) == ["other"]


def test_a_pipe_that_looks_like_an_owner_is_passed_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"{PREFIX}x.owner")
    with passing_directory(tmp_path / "made"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [f"{PREFIX}x.owner"]


def test_what_a_living_process_writes_stays(tmp_path: Path) -> None:
    with passing_directory(tmp_path / "one") as folder:
        pid = in_a_child(lambda: sweep(tmp_path))
        os.waitpid(pid, 0)
        assert folder.is_dir()
    assert names(tmp_path) == []


@pytest.mark.parametrize("alive", [True, False])
def test_where_files_have_no_locks_the_process_itself_tells(
    alive: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    read, write = os.pipe()

    def work() -> None:
        with passing_directory(tmp_path / "one"):
            os.write(write, b"x")
            time.sleep(60)

    pid = in_a_child(work)
    os.read(read, 1)
    if not alive:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    sweep(tmp_path)
    assert bool(names(tmp_path)) == alive
    if alive:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    os.close(read)
    os.close(write)


def test_a_name_that_was_taken_away_is_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If two names cannot be swapped in one step, a kill may happen between the two steps."""
    with staged_directory(tmp_path / "x", replace=False) as folder:
        (folder / "old").write_text("x")

    def half(content: Path, final: Path) -> None:
        final.rename(content.with_suffix(".replaced"))
        os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(staging, "_exchange", half)

    def replace() -> None:
        with staged_directory(tmp_path / "x", replace=True):
            pass

    os.waitpid(in_a_child(replace), 0)
    assert "x" not in names(tmp_path)
    sweep(tmp_path)
    assert names(tmp_path) == ["x"]
    assert names(tmp_path / "x") == ["old"]


def test_folders_that_were_made_for_a_result_go_with_it(tmp_path: Path) -> None:
    def fail() -> None:
        with staged_directory(tmp_path / "a" / "b" / "c", replace=False):
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(StorageError, match="input/output error"):
        fail()
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EDQUOT, "x"), "quota"),
        (OSError(errno.EFBIG, "x"), "larger than"),
        (OSError(errno.EROFS, "x"), "read-only"),
        (Exception("No space left on device (os error 28)"), "the disk is full"),
    ],
)
def test_every_way_not_to_be_written_is_named(error: Exception, words: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=words), staged_directory(tmp_path / "x", replace=False):
        raise error
    assert names(tmp_path) == []


def test_what_could_not_be_removed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        with staged_directory(tmp_path / "x", replace=False):
            monkeypatch.setattr(staging.shutil, "rmtree", lambda *_, **__: None)
            raise OSError(errno.ENOSPC, "x")

    with pytest.raises(StorageError) as raised:
        fail()
    assert "could not be removed" in raised.value.action
    monkeypatch.undo()
    sweep(tmp_path)
    assert names(tmp_path) == []


def test_a_signal_waits_for_what_must_not_be_cut(tmp_path: Path) -> None:
    def interrupt(number: int, _: object) -> None:
        raise Interrupted(number)

    done = []
    before = signal.signal(signal.SIGTERM, interrupt)

    def work() -> None:
        with uninterrupted():
            os.kill(os.getpid(), signal.SIGTERM)
            done.append("all")

    try:
        with pytest.raises(Interrupted):
            work()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert done == ["all"]


def test_a_lock_is_that_of_the_file_that_has_the_name_now(tmp_path: Path) -> None:
    file = tmp_path / "manifest.json"
    file.write_text("old")
    said: list[str] = []
    read, write = os.pipe()

    def hold() -> None:
        with locked(file):
            os.write(write, b"x")
            time.sleep(0.3)
            (tmp_path / "new").write_text("new")
            (tmp_path / "new").rename(file)

    pid = in_a_child(hold)
    os.read(read, 1)
    with locked(file, said.append):
        assert file.read_text() == "new"
        with file.open("rb") as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.waitpid(pid, 0)
    assert said == [f"Waiting for another command that uses {tmp_path}"]
    os.close(read)
    os.close(write)
