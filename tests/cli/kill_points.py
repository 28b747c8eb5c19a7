"""Runs a job again and again, each time killed at a later change of the file system.

`python -m tests.cli.kill_points export BUNDLE`, or `build BUNDLE`. Prints how many kills there
were; the last run is not killed. After each kill the place must be as before the job, or as after it.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ptgc.compiler.build import BuildOptions, build
from ptgc.compiler.stage import Stage
from ptgc.exporters import bundle_writer
from ptgc.exporters.references import reference_of
from ptgc.exporters.roles import RoleSource, trace_role
from ptgc.spec.bundle import open_bundle
from ptgc.spec.plan import ngram
from tests.models import tiny_model

CHANGES = frozenset(
    {"os.rename", "os.mkdir", "os.remove", "os.chmod", "os.truncate", "tempfile.mkdtemp", "shutil.rmtree"}
)


def is_change(event: str, arguments: tuple[Any, ...]) -> bool:
    if event != "open":
        return event in CHANGES
    path, mode, flags = arguments
    if not isinstance(path, str) or "/proc/" in path or "__pycache__" in path or path.startswith("/dev/"):
        return False
    return bool(flags & (os.O_WRONLY | os.O_RDWR)) or (isinstance(mode, str) and "w" in mode)


def killed_after(changes: int, job: Callable[[], object]) -> bool:
    """Run the job in a child that is killed at that change; gives whether it was."""
    pid = os.fork()
    if pid == 0:
        seen = 0

        def watch(event: str, arguments: tuple[Any, ...]) -> None:
            nonlocal seen
            if is_change(event, arguments):
                seen += 1
                if seen > changes:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        job()
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.WEXITSTATUS(status) == 0
    return False


def run_export(bundle: Path) -> int:
    """Tracing touches no file of the bundle and PyTorch does not like to be forked, so it is done once, before."""
    model = tiny_model("llama")
    traced, texts = trace_role(RoleSource("target", model, ngram())), reference_of({"target": model}, ngram(), None)
    bundle_writer.trace_role = lambda _: traced
    bundle_writer.reference_of = lambda *_: texts
    kills = 0
    while killed_after(kills, lambda: bundle_writer.export({"target": model}, ngram(), bundle)):
        kills += 1
        if bundle.exists():  # killed behind the rename
            open_bundle(bundle).verify()
            break
    open_bundle(bundle).verify()
    return kills


def run_build(bundle: Path) -> int:
    kills = 0
    before = {build.manifest.id for build in open_bundle(bundle).builds()}
    options = BuildOptions(precision="int8", stage=Stage.PREPARE, build_id="made", replace=True)
    while killed_after(kills, lambda: build(bundle, options)):
        kills += 1
        opened = open_bundle(bundle)
        opened.verify()
        assert {one.manifest.id for one in opened.builds()} - before <= {"made"}
        for one in opened.builds():
            one.verify()
    return kills


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if ".partial-" in path.name or ".replaced-" in path.name]


if __name__ == "__main__":
    job, *paths = sys.argv[1:]
    if job == "export":
        count, folder = run_export(Path(paths[0])), Path(paths[0]).parent
    else:
        count, folder = run_build(Path(paths[0])), Path(paths[0]) / "builds"
    sys.stdout.write(f"{count} {len(leftovers(folder))}\n")
