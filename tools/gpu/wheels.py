"""Wheels in a folder, so that `make gpu` runs on a machine without a package index.

    python3.12 tools/gpu/wheels.py fetch FOLDER [--piece-mib 60]      on a machine with an index
    python3 tools/gpu/wheels.py install FOLDER SITE                   on the machine with the GPU; then PYTHONPATH=SITE

The machine with the GPU must already have torch with CUDA's libraries, transformers, onnx, and their dependencies. This
script uses only the standard library and pip.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("onnxruntime-gpu", "gguf", "onnx-ir", "onnxscript", "optimum")
"""Packages besides ptgc's own wheel; constraints.txt has their versions."""
_PIECE = ".part-"
_MIB = 1 << 20


class WheelError(Exception):
    """Wheels that cannot be used; the message says why."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Fetch wheels into a folder, or install them from one.")
    commands = parser.add_subparsers(dest="command", required=True)
    fetching = commands.add_parser("fetch", help="build ptgc's wheel for this Python, and download the others")
    fetching.add_argument("folder", type=Path)
    fetching.add_argument("--piece-mib", type=int, help="split larger wheels into pieces of this many MiB")
    installing = commands.add_parser("install", help="install a folder's wheels for this Python")
    installing.add_argument("folder", type=Path)
    installing.add_argument("site", type=Path, help="folder to install into; nothing else is touched")
    options = parser.parse_args(arguments)
    try:
        if options.command == "fetch":
            fetch(options.folder, options.piece_mib)
        else:
            install(options.folder, options.site)
    except (WheelError, subprocess.CalledProcessError, OSError) as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def fetch(folder: Path, piece_mib: int | None = None) -> None:
    """Fill a folder with wheels for the Python that runs this.

    Args:
        folder: The folder; created if it is missing.
        piece_mib: Wheels larger than this are split.

    Raises:
        subprocess.CalledProcessError: pip could not build or find one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _pip("wheel", "--no-deps", "-w", folder, ROOT)
    _pip("download", "--no-deps", "--only-binary=:all:", "-d", folder, *PACKAGES)
    for wheel in sorted(folder.glob("*.whl")):
        if piece_mib is not None and wheel.stat().st_size > piece_mib * _MIB:
            split(wheel, piece_mib * _MIB)


def install(folder: Path, site: Path) -> None:
    """Install all wheels of a folder into a separate folder, after joining pieces.

    Raises:
        WheelError: There are none, or pieces are missing.
        subprocess.CalledProcessError: pip refused one.
    """
    with tempfile.TemporaryDirectory() as joined:
        wheels = [*sorted(folder.glob("*.whl")), *join_pieces(folder, Path(joined))]
        if not wheels:
            raise WheelError(f"{folder} has no wheels; tools/gpu/wheels.py fetch {folder} fills it.")
        _pip("install", "--no-index", "--no-deps", "--no-compile", "--upgrade", "--target", site, *wheels)


def split(wheel: Path, num_bytes: int) -> list[Path]:
    """Replace a wheel by pieces of it: `NAME.whl.part-00`, `-01` ..."""
    pieces = []
    with wheel.open("rb") as file:
        while content := file.read(num_bytes):
            pieces.append(wheel.with_name(f"{wheel.name}{_PIECE}{len(pieces):02}"))
            pieces[-1].write_bytes(content)
    wheel.unlink()
    return pieces


def join_pieces(folder: Path, target: Path) -> list[Path]:
    """Join the pieces in a folder to whole wheels in another one.

    Raises:
        WheelError: One is missing.
    """
    names = sorted({path.name.partition(_PIECE)[0] for path in folder.glob(f"*.whl{_PIECE}*")})
    return [_join(name, sorted(folder.glob(f"{name}{_PIECE}*")), target / name) for name in names]


def _join(name: str, pieces: Sequence[Path], wheel: Path) -> Path:
    with wheel.open("wb") as file:
        for piece in pieces:
            file.write(piece.read_bytes())
    numbers = [int(piece.name.partition(_PIECE)[2]) for piece in pieces]
    # The last bytes of a wheel are its directory: without the last piece it is not a zip file.
    if numbers != list(range(len(pieces))) or not zipfile.is_zipfile(wheel):
        raise WheelError(f"Pieces of {name} are missing; there are: {', '.join(map(str, numbers))}.")
    return wheel


def _pip(*arguments: object) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", *(str(part) for part in arguments)]
    subprocess.run(command, check=True, env={**os.environ, "PIP_CONSTRAINT": str(ROOT / "constraints.txt")})


if __name__ == "__main__":
    sys.exit(main())
