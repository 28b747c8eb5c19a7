"""Runs a job again and again, each time failing at a later change of the file system.

`python -m tests.cli.kill_points kill|full export|build|compile|auto|pack PLACE [EVERY]`: `kill` kills the process at
that change, `full` has it fail once as on a full disk. PLACE holds `bundle`; `export` makes `new` beside it and `pack`
`packed`. EVERY takes one change of so many. Prints how many failures there were, and how many staging files are left in
the end; the last run does not fail. After each failure the place must be as before the job, or as after it, but for
what a killed process leaves to the next command.
"""

from __future__ import annotations

import errno
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.pack import pack
from ptgc.compiler.build.stage import Stage
from ptgc.errors import StorageError
from ptgc.exporters import bundle_writer
from ptgc.exporters.references.references import reference_of
from ptgc.exporters.roles.base import RoleSource, trace_role
from ptgc.spec.bundle import open_bundle
from ptgc.spec.staging import PREFIX
from ptgc.spec.strategies.ngram import ngram
from tests.models import tiny_model

TAKING_SPACE = frozenset({"os.rename", "os.mkdir", "os.link", "tempfile.mkstemp"})
CHANGES = TAKING_SPACE | {"os.remove", "os.chmod", "os.truncate", "shutil.rmtree"}
DONE, SURVIVED, FAILED = 0, 7, 8  # how a child ends: without a failure, despite one, because of one


def is_change(event: str, arguments: tuple[Any, ...], changes: frozenset[str]) -> bool:
    if event != "open":
        return event in changes
    path, mode, flags = arguments
    if not isinstance(path, str) or "/proc/" in path or "__pycache__" in path or path.startswith("/dev/"):
        return False
    return bool(flags & (os.O_WRONLY | os.O_RDWR)) or (isinstance(mode, str) and "w" in mode)


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fill() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def fails_after(changes: int, job: Callable[[], object], fail: Callable[[], None]) -> int:
    """Run the job in a child that fails at that change; gives how it ended."""
    pid = os.fork()
    if pid == 0:
        seen = 0

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if is_change(event, arguments, CHANGES if fail is kill else TAKING_SPACE):
                seen += 1
                if seen == changes + 1:
                    fail()

        sys.addaudithook(watch)
        try:
            job()
        except StorageError as error:
            is_clean = "the disk is full" in error.message and "could not be removed" not in error.action
            os._exit(FAILED if is_clean else 1)
        os._exit(DONE if seen <= changes else SURVIVED)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return FAILED
    assert os.WEXITSTATUS(status) in (DONE, SURVIVED, FAILED), status
    return os.WEXITSTATUS(status)


def traced_export(bundle: Path) -> Callable[[], object]:
    """Tracing touches no file of the bundle and PyTorch does not like to be forked, so it is done once, before."""
    model = tiny_model("llama")
    traced, texts = trace_role(RoleSource("target", model, ngram())), reference_of({"target": model}, ngram(), None)
    bundle_writer.trace_role = lambda _: traced
    bundle_writer.reference_of = lambda *_: texts
    return lambda: bundle_writer.export({"target": model}, ngram(), bundle)


def made_by(place: Path, job: str) -> tuple[Callable[[], object], Path]:
    """A job, and its output."""
    bundle = place / "bundle"
    if job == "export":
        return traced_export(place / "new"), place / "new"
    if job == "pack":
        return lambda: pack(bundle, place / "packed"), place / "packed"
    stage = Stage.PREPARE if job == "build" else Stage.ALL
    precision = "auto" if job == "auto" else "int8"
    options = BuildOptions(precision=precision, max_divergence=10, stage=stage, build_id="made", max_length=64)
    return lambda: build(bundle, options), bundle / "builds" / "made"


def files(folder: Path) -> dict[str, int]:
    """Every file and its size, except staging files."""
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.stat().st_size for path in found if PREFIX not in str(path)}


def staged(place: Path) -> list[Path]:
    return list(place.rglob(f"{PREFIX}*"))


def run(place: Path, job: str, fail: Callable[[], None], every: int) -> int:
    """Fail at one change after the other; gives how often."""
    work, made = made_by(place, job)
    before, failures = files(place), 0
    while (ended := fails_after(failures * every, work, fail)) != DONE:
        if made.exists() and fail is kill:
            break  # after the rename
        failures += 1
        if ended == SURVIVED:  # only a lock, or the cleanup after the rename, failed
            shutil.rmtree(made)
        assert files(place) == before
        assert fail is kill or not staged(place), staged(place)
    open_bundle(place / "new" if job == "export" else place / "bundle").verify()
    for one in open_bundle(place / "packed" if job == "pack" else place / "bundle").builds():
        one.verify()
    return failures


if __name__ == "__main__":
    kind, job, folder, *rest = sys.argv[1:]
    count = run(Path(folder), job, kill if kind == "kill" else fill, int(rest[0]) if rest else 1)
    sys.stdout.write(f"{count} {len(staged(Path(folder)))}\n")
