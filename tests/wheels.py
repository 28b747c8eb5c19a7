"""The wheel of this tree, built once for all tests of a run, and environments of it."""

from __future__ import annotations

import shutil
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


def build_wheel(folder: Path) -> None:
    """Build the wheel into a folder; what the editable install compiled is not compiled again."""
    pip(sys.executable, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, ROOT)


def _packages_without_ours(folder: Path) -> Path:
    """Links to all packages of this environment; optimum without the command added by the editable install."""
    folder.mkdir()
    for package in Path(sysconfig.get_path("purelib")).iterdir():
        if package.name == "optimum":
            shutil.copytree(package, folder / package.name, ignore=shutil.ignore_patterns("export_ptgc*"))
        elif package.suffix != ".pth":
            (folder / package.name).symlink_to(package)
    return folder


def environment_beside(folder: Path, wheel: Path) -> Path:
    """The Python of an environment with the wheel, and this environment's packages without the editable install."""
    venv.create(folder, with_pip=False)
    (site,) = (folder / "lib").glob("python*/site-packages")
    (site / "these.pth").write_text(f"{_packages_without_ours(folder / 'beside')}\n", encoding="utf-8")
    zipfile.ZipFile(wheel).extractall(site)
    return folder / "bin" / "python"
