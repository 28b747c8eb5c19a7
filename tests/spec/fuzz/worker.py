"""The process that opens hostile bundles: it reads a line of JSON and answers with a line of results."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
import traceback
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from ptgc.cli.app import app
from ptgc.errors import PtgcError
from ptgc.runtime import Generator
from ptgc.runtime.generator import load_core
from ptgc.spec.bundle import BUILDS, Build, open_bundle
from ptgc.spec.reference import read_reference_file

_MEMORY = 12 << 30  # limit of address space in bytes: larger requests must be refused by ptgc, not granted
_LENGTH = 6  # tokens of a text


class OpenedFiles:
    """Records files that Python opens for the first time, except modules."""

    def __init__(self) -> None:
        self._known: set[str] = set()
        self._found: list[str] = []
        sys.addaudithook(self._on)

    def _on(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "open" or isinstance(arguments[0], int):
            return
        path = os.path.abspath(os.fsdecode(arguments[0]))  # noqa: PTH100  # the hook may not open anything
        if path not in self._known and not path.endswith((".py", ".pyc", ".so", ".json.gz")):
            self._found.append(path)

    def settle(self) -> None:
        """Allow everything opened so far to be opened again."""
        self._known |= set(self._found)
        self._found.clear()

    def outside(self, folders: tuple[str, ...]) -> list[str]:
        """Files opened since then, outside of some folders."""
        found = [path for path in self._found if not path.startswith(folders)]
        self._found.clear()
        return found


def use(bundle: Path, reader: str) -> dict[str, Any]:
    """Run every function that opens a bundle, or the core alone."""
    if reader == "core":
        return {"ids": _from_core(bundle)}
    shown = CliRunner().invoke(app, ["inspect", str(bundle), "--json"])
    if shown.exit_code not in (0, 1):
        raise AssertionError(f"inspect ended with {shown.exit_code}: {shown.output[-3000:]}") from shown.exception
    opened = open_bundle(bundle)
    if opened.manifest.reference is not None:
        _tolerate(lambda: read_reference_file(opened, str(opened.manifest.reference)))
    with Generator(bundle, num_threads=1) as generator:
        found = {"ids": list(generator.generate(_prompt(bundle), max_new_tokens=_LENGTH).token_ids)}
        if generator.codec is not None:
            _tolerate(lambda: generator.generate("ab", max_new_tokens=2))
            _tolerate(lambda: generator.generate([{"role": "user", "content": "a"}], max_new_tokens=2))
        return found


def _from_core(bundle: Path) -> list[int]:
    """Open the build with the core alone: its reader must refuse whatever Python's reader refuses."""
    (folder,) = (bundle / BUILDS).iterdir()
    stand_in: Any = type("Stand", (), {"device": "cpu"})
    core = load_core(Build(folder, stand_in), num_threads=1)
    from ptgc.runtime import _core

    request = _core.Request(prompt_ids=_prompt(bundle), max_new_tokens=_LENGTH)
    return list(core.generate([request], None)[0].token_ids)


def _prompt(bundle: Path) -> list[int]:
    return json.loads((bundle.parent / "prompt.json").read_text())


def _tolerate(action: Any) -> None:
    """Continue with the next step after a refusal."""
    with contextlib.suppress(PtgcError):
        action()


def main() -> None:
    """Answer until the input ends."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    opened = OpenedFiles()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries may print
    answer: dict[str, Any]
    for number, line in enumerate(sys.stdin):
        given = json.loads(line)
        bundle = Path(given["bundle"])
        try:
            answer = use(bundle, given["reader"])
        except PtgcError as error:
            answer = {"error": error.code, "message": error.message}
        except BaseException:  # noqa: BLE001  # whatever it is, it is a bug
            answer = {"bug": traceback.format_exc()}
        if number < given["settling"]:
            opened.settle()
        folders = (
            str(bundle),
            os.environ["PTGC_CACHE"],
            str(bundle.parent / "prompt.json"),
            "/proc/",
            "/sys/",
            "/dev/",
        )
        answer["outside"] = opened.outside(folders)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
