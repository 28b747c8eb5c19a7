"""The wheel of this tree, built once for all tests of a run, and environments of it."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

from tests.bundles import ROOT


def pip(python: Path | str, *arguments: object) -> None:
    """Run pip of an environment."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "-q", *(str(part) for part in arguments)]
    subprocess.run(command, check=True, cwd=ROOT)


def build_wheel(folder: Path) -> Path:
    """The wheel, built in a folder of its own."""
    options = ("--no-deps", "--no-build-isolation", "-C", f"build-dir={folder / 'build'}", "-w", folder)
    pip(sys.executable, "wheel", *options, ROOT)
    (found,) = folder.glob("*.whl")
    return found


def environment_beside(folder: Path, wheel: Path) -> Path:
    """The Python of an environment of the wheel, beside the packages, but not the editable install, of this one."""
    venv.create(folder, with_pip=False)
    (site,) = (folder / "lib").glob("python*/site-packages")
    (site / "these.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    zipfile.ZipFile(wheel).extractall(site)
    return folder / "bin" / "python"
