"""Packages with a strategy, as an installer leaves them on the path."""

from __future__ import annotations

from pathlib import Path

from tests.documents import code_blocks

ECHO = code_blocks("docs/adding-a-strategy.md", "python")[0]


def install(folder: Path, package: str, name: str, code: str) -> Path:
    """Write a package whose module has a strategy under an entry point; return the folder for the path."""
    module = package.replace("-", "_")
    metadata = folder / f"{module}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[ptgc.strategies]\n{name} = {module}:STRATEGY\n")
    (folder / f"{module}.py").write_text(code)
    return folder
