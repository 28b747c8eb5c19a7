"""Wheels in a folder: split, joined, installed without an index."""

from __future__ import annotations

import random
import zipfile
from pathlib import Path

import pytest

from tests.tools.gpu_scripts import wheels

NAME = "tiny_package-1.0-py3-none-any.whl"
_METADATA = "Metadata-Version: 2.1\nName: tiny-package\nVersion: 1.0\n"
_WHEEL = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def write_wheel(folder: Path) -> Path:
    """A wheel of a package that holds a few thousand numbers."""
    info = "tiny_package-1.0.dist-info"
    files = {
        "tiny_package.py": f"NUMBERS = {[random.Random(3).random() for _ in range(2000)]}\n",
        f"{info}/METADATA": _METADATA,
        f"{info}/WHEEL": _WHEEL,
        f"{info}/RECORD": "",
    }
    with zipfile.ZipFile(folder / NAME, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return folder / NAME


def test_pieces_of_a_wheel_are_joined(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path)
    whole = wheel.read_bytes()
    pieces = wheels.split(wheel, 10_000)
    assert [piece.name for piece in pieces[:2]] == [f"{NAME}.part-00", f"{NAME}.part-01"]
    assert not wheel.exists() and len(pieces) > 2
    (tmp_path / "joined").mkdir()
    (joined,) = wheels.join_pieces(tmp_path, tmp_path / "joined")
    assert joined.name == NAME and joined.read_bytes() == whole


@pytest.mark.parametrize("missing", [0, 1, -1])
def test_a_missing_piece_is_named(missing: int, tmp_path: Path) -> None:
    wheels.split(write_wheel(tmp_path), 10_000)[missing].unlink()
    (tmp_path / "joined").mkdir()
    with pytest.raises(wheels.WheelError, match=f"Pieces of {NAME} are missing"):
        wheels.join_pieces(tmp_path, tmp_path / "joined")


def test_pieces_are_installed_into_a_folder_of_their_own(tmp_path: Path) -> None:
    folder, site = tmp_path / "wheels", tmp_path / "site"
    folder.mkdir()
    wheels.split(write_wheel(folder), 10_000)
    assert wheels.main(["install", str(folder), str(site)]) == 0
    assert (site / "tiny_package.py").is_file()


def test_an_empty_folder_says_how_it_is_filled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert wheels.main(["install", str(tmp_path), str(tmp_path / "site")]) == 1
    assert f"fetch {tmp_path}" in capsys.readouterr().err
