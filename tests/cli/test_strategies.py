"""Strategies from other packages through the public command, and the page that shows how to write one."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bundles import ROOT
from tests.documents import code_blocks
from tests.models import prompt, save, tiny_model
from tests.spec.strategies.packages import ECHO, install

IDS = ",".join(map(str, prompt(9)))
PAGE = "docs/adding-a-strategy.md"
OFFLINE = {"PIP_NO_INDEX": "1", "PIP_NO_DEPS": "1", "PIP_NO_BUILD_ISOLATION": "0"}
"""Let pip use the installed build packages; for this option, 0 means yes."""


def ptgc(*arguments: object, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, where a package is installed or not."""
    environment = os.environ | ({"PYTHONPATH": str(site)} if site else {})
    command = [sys.executable, "-m", "ptgc", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = install(tmp_path_factory.mktemp("site"), "echo-strategy", "echo", ECHO)
    return install(place, "broken-strategy", "broken", "import nothing_of_that_name")


def test_the_worked_example_is_exported_built_run_and_checked_as_written(tmp_path: Path) -> None:
    """Without the package, the plan still holds everything that is needed."""
    package, bundle, site = tmp_path / "echo-strategy", tmp_path / "bundle", tmp_path / "site"
    package.mkdir()
    (package / "echo_strategy.py").write_text(ECHO)
    (package / "pyproject.toml").write_text(code_blocks(PAGE, "toml")[0])
    save(tiny_model("llama"), tmp_path / "model")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | OFFLINE | {"PIP_TARGET": str(site), "PYTHONPATH": str(site), "PATH": path}
    command = ["bash", "-ec", code_blocks(PAGE, "sh")[0]]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
    assert "--most-copies" in done.stdout
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert (manifest["strategy"], manifest["guarantee"], manifest["lossless"]) == ("echo", "lossless", True)
    assert manifest["provenance"]["arguments"] == {"strategy": "echo", "most_copies": 5}
    assert manifest["plan"]["drafter"]["num_draft_tokens"] == 5
    written = json.loads(ptgc("run", bundle, "--prompt-ids", IDS, "--max-new-tokens", 12, "--json").stdout)
    plain = json.loads(ptgc("run", bundle, "--prompt-ids", IDS, "--max-new-tokens", 12, "--plain", "--json").stdout)
    assert (written["strategy"], written["lossless"]) == ("echo", True)
    assert written["token_ids"] == plain["token_ids"]


def test_the_worked_drafter_is_right_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The drafter's Python and C++; the rest of it is table entries."""
    (tmp_path / "repeat_strategy.py").write_text(code_blocks(PAGE, "python")[1])
    monkeypatch.syspath_prepend(tmp_path)
    plan = importlib.import_module("repeat_strategy").repeat(3)
    assert not plan.problems()
    assert plan.to_json()["drafter"] == {"kind": "repeat", "num_draft_tokens": 3, "min_run_length": 2}
    header, source, *_ = code_blocks(PAGE, "cpp")
    (tmp_path / "drafters").mkdir()
    (tmp_path / "drafters" / "repeat_drafter.h").write_text(header)
    (tmp_path / "repeat_drafter.cc").write_text(source)
    places = [f"-I{place}" for place in (tmp_path, ROOT / "runtime/src", ROOT / "runtime/vendor")]
    command = ["c++", "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", *places, "repeat_drafter.cc"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr


def test_help_shows_its_options_and_what_is_broken(site: Path) -> None:
    shown = ptgc("export", "--strategy", "echo", "--help", site=site).stdout
    assert "--most-copies" in shown and "Copies what it has said before." in shown
    assert "--num-draft-tokens" not in shown and "masked-diffusion" in shown
    assert "broken-strategy" in shown


@pytest.mark.parametrize(
    ("given", "status", "said"),
    [
        (["echo", "--most-copies", "10"], 2, "--most-copies is 10; it must be from 1 to 9"),
        (["echo", "--num-steps", "1"], 2, "takes no --num-steps; it has --most-copies"),
        (["broken"], 1, "'broken' of the package 'broken-strategy' cannot be used"),
    ],
)
def test_what_is_wrong_with_it_is_said(site: Path, given: list[str], status: int, said: str) -> None:
    result = ptgc("export", "X", "-o", "Y", "--strategy", *given, "--json", site=site)
    assert result.returncode == status, result.stderr
    assert said in json.loads(result.stdout)["error"]["message"]
