"""How to install an extra of ptgc, which is on no package index."""

from __future__ import annotations


def how_to_install(*extras: str) -> str:
    """The commands, as the end of a sentence.

    Args:
        extras: Names of pyproject.toml's optional dependencies.
    """
    names = ",".join(extras)
    return f'pip install ".[{names}]" in the source tree of ptgc, or pip install "FILE.whl[{names}]" with its wheel'
