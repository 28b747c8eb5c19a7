"""Names and links in the README exist."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import click
import pytest
import typer

from ptgc.cli.app import app
from tests.bundles import ROOT

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
COMMANDS = [
    line.split("#")[0].strip() for _, block in BLOCKS for line in block.splitlines() if line.startswith("ptgc ")
]
LINKS = re.findall(r"\]\(([^)#]+)\)", TEXT)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_and_option_exists(line: str) -> None:
    group = typer.main.get_command(app)
    _, name, *rest = line.split()
    _, command, _ = group.resolve_command(click.Context(group), [name, *rest])  # type: ignore[attr-defined]  # a group
    assert command is not None, name
    known = {option for parameter in command.params for option in parameter.opts}
    assert {part for part in rest if part.startswith("-")} <= known


@pytest.mark.parametrize("source", [block for language, block in BLOCKS if language == "python"])
def test_python_examples_use_names_that_exist(source: str) -> None:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            module = importlib.import_module(node.module or "")
            for name in node.names:
                assert hasattr(module, name.name)


@pytest.mark.parametrize("link", sorted(set(LINKS)))
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_no_document_names_a_place_of_its_writers() -> None:
    for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "tools").rglob("*.md")):
        assert not re.search(r"/root/|/work/|/home/|/tmp/", path.read_text(encoding="utf-8")), path


def test_nothing_says_to_install_ptgc_from_a_package_index() -> None:
    """It is on none; installing works only from the source tree or from a wheel."""
    folders = ("ptgc", "exporters", "graphs", "runtime", "tools", "docs")
    texts = [*ROOT.glob("*.md"), *(file for folder in folders for file in (ROOT / folder).rglob("*"))]
    for path in texts:
        if path.suffix in {".md", ".py", ".cc", ".h", ".hpp", ".cmake", ".sh"} and "CHANGELOG" not in path.name:
            assert not re.search(r"pip install \W*ptgc\b", path.read_text(encoding="utf-8")), path


def test_versions_agree() -> None:
    path = Path(ROOT, "pyproject.toml").read_text(encoding="utf-8")
    from ptgc import __version__

    assert f'version = "{__version__}"' in path
    assert re.search(rf"VERSION {re.escape(__version__)}\b", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"))
