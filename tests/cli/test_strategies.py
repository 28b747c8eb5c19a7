"""A strategy of another package through the public command: exported, built and run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bundles import ROOT
from tests.models import prompt, save, tiny_model
from tests.spec.strategies.packages import ECHO, install

IDS = ",".join(map(str, prompt(9)))


def ptgc(*arguments: object, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, where a package is installed or not."""
    environment = os.environ | ({"PYTHONPATH": str(site)} if site else {})
    command = [sys.executable, "-m", "ptgc", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = install(tmp_path_factory.mktemp("site"), "echo-strategy", "echo", ECHO)
    return install(place, "broken-strategy", "broken", "import nothing_of_that_name")


def test_a_strategy_of_another_package_is_exported_built_and_run(site: Path, tmp_path: Path) -> None:
    model, bundle = save(tiny_model("llama"), tmp_path / "model"), tmp_path / "bundle"
    asked = ("export", model, "-o", bundle, "--strategy", "echo", "--most-copies", 5, "--json")
    exported = ptgc(*asked, site=site)
    assert json.loads(exported.stdout)["strategy"] == "echo", exported.stderr
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert (manifest["strategy"], manifest["guarantee"], manifest["lossless"]) == ("echo", "lossless", True)
    assert manifest["provenance"]["arguments"] == {"strategy": "echo", "most_copies": 5}
    assert manifest["plan"]["drafter"]["num_draft_tokens"] == 5
    # Where that package is missing, the plan says all that is needed.
    assert ptgc("build", bundle, "--precision", "float32", "--max-length", 128, "--json").returncode == 0
    written = json.loads(ptgc("run", bundle, "--prompt-ids", IDS, "--max-new-tokens", 12, "--json").stdout)
    plain = json.loads(ptgc("run", bundle, "--prompt-ids", IDS, "--max-new-tokens", 12, "--plain", "--json").stdout)
    assert (written["strategy"], written["lossless"]) == ("echo", True)
    assert written["token_ids"] == plain["token_ids"]


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
