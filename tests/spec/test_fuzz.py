"""Hostile bundles: whatever a document says, the result is the right text or an error from ptgc, and nothing else.

`PTGC_FUZZ_CASES` sets how many there are; `PTGC_FUZZ_READER=core` leaves Python's reader out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.spec.fuzz.bundles import FuzzBundle, good_build
from tests.spec.fuzz.cases import CASES, LOOPS, MEASURED, Case
from tests.spec.fuzz.process import Worker
from tests.spec.fuzz.watch import FolderWatch

_CASES = int(os.environ.get("PTGC_FUZZ_CASES", "500"))
_READER = os.environ.get("PTGC_FUZZ_READER", "package")
_MOST = 6  # tokens that the worker asks for


class Fuzz:
    """Good bundles, a process that opens changed ones, and a watch on the other files that it opens."""

    def __init__(self, place: Path, folder: Path) -> None:
        self._bundles = {}
        for loop in LOOPS:
            (folder / loop).mkdir()
            self._bundles[loop] = FuzzBundle(good_build(place, loop), folder / loop)
        (folder / "work").mkdir()
        outside = [folder / "work"]
        outside += [folder / loop / name for loop in LOOPS for name in ("canary", "elsewhere")]
        self._watch = FolderWatch(*outside)
        self._worker = Worker(folder / "work", len(LOOPS))
        self._texts = {loop: self._run(loop) for loop in LOOPS}
        assert all("ids" in text for text in self._texts.values()), self._texts
        self._watch.seen()

    def _run(self, loop: str) -> dict[str, Any]:
        return self._worker.run(self._bundles[loop].path, _READER)

    def problem(self, case: Case) -> str | None:
        """The problem with the result of a case; None if there is none."""
        bundle = self._bundles[case.loop]
        try:
            bundle.change(case)
            self._watch.seen()
            found = self._run(case.loop)
            seen = self._watch.seen()
        finally:
            bundle.restore()
        if "end" in found:
            for loop in LOOPS:  # files opened by a good bundle are allowed again
                self._run(loop)
            return f"the process: {found['end']}"
        if "bug" in found:
            return str(found["bug"])
        if seen or (found["outside"] and _READER == "package"):
            return f"outside of the bundle: {seen + found['outside']}"
        return None if "error" in found else self._wrong_text(case, found["ids"])

    def _wrong_text(self, case: Case, ids: list[int]) -> str | None:
        good = self._texts[case.loop]["ids"]
        if ids == good:
            return None
        if case.document in MEASURED or not _may_change_text(case):
            return f"the text is {ids}, not {good}"
        return None if len(ids) <= _MOST and all(0 <= token < 1 << 24 for token in ids) else f"the text is {ids}"

    def close(self) -> None:
        """End the process."""
        self._worker.stop()
        self._watch.close()


def _may_change_text(case: Case) -> bool:
    return case.document in ("manifest", "build")


@pytest.fixture(scope="module")
def fuzz(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzz]:
    made = Fuzz(place, tmp_path_factory.mktemp("fuzz"))
    yield made
    made.close()


@settings(
    max_examples=_CASES,
    deadline=None,
    derandomize="PTGC_FUZZ_CASES" not in os.environ,
    database=None,
    phases=[Phase.generate, Phase.shrink] if "PTGC_FUZZ_LOG" not in os.environ else [Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
)
@given(case=CASES)
def test_a_hostile_bundle_gives_its_text_or_an_error(fuzz: Fuzz, case: Case) -> None:
    problem = fuzz.problem(case)
    log = os.environ.get("PTGC_FUZZ_LOG")
    if log is None:
        assert problem is None, problem
    elif problem is not None:  # a survey continues
        with Path(log).open("a") as file:
            file.write(json.dumps({"case": repr(case), "problem": problem}) + "\n")
