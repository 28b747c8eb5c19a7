"""The denoiser of one's own in docs/adding-a-model.md, run as written."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from ptgc.compiler.checking.check import check_bundle
from tests.documents import code_blocks


def test_the_worked_denoiser_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "denoiser.py").write_text(code_blocks("docs/adding-a-model.md", "python")[0])
    runpy.run_path("denoiser.py")
    assert capsys.readouterr().out.splitlines() == ["[6, 7, 8, 9, 0, 1, 2, 3, 4]", "[8, 9, 0, 1, 2]"]
    assert all(report.passed for report in check_bundle(tmp_path / "counting"))
