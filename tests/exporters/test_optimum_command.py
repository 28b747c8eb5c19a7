"""`optimum-cli export ptgc` from an editable install; tests/test_wheel.py looks at the wheel."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from optimum.commands import optimum_cli

from ptgc.exporters.optimum_command import PtgcExportCommand
from ptgc.spec.bundle import open_bundle
from ptgc.spec.options import options_of
from ptgc.spec.strategies import BUILT_IN, find_strategy
from tests.models import save, tiny_model


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["optimum-cli", "export", "ptgc", *map(str, arguments)])
    optimum_cli.main()


def test_optimum_exports_a_bundle_with_the_options_of_ptgc(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save(tiny_model("llama"), tmp_path / "model")
    run(monkeypatch, "-m", model, "--strategy", "ngram", "--num-draft-tokens", 3, tmp_path / "bundle")
    assert open_bundle(tmp_path / "bundle").manifest.plan.drafter.num_draft_tokens == 3
    assert "Tracing" in capsys.readouterr().err


def test_what_the_user_can_fix_is_said_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        run(monkeypatch, "-m", tmp_path / "nothing", tmp_path / "bundle")
    assert stop.value.code == 1
    assert "no such path" in capsys.readouterr().err


def test_every_option_of_an_export_can_be_given(capsys: pytest.CaptureFixture[str]) -> None:
    from argparse import ArgumentParser

    parser = ArgumentParser()
    PtgcExportCommand.parse_args(parser)
    parser.print_help()
    text = capsys.readouterr().out
    options = [option for name in BUILT_IN for option in options_of(find_strategy(name).options)]
    assert "--strategy" in text and options and all(option.flag in text for option in options)
