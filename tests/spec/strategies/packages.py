"""Packages that bring a strategy, as an installer leaves them on the path."""

from __future__ import annotations

from pathlib import Path

ECHO = '''
from dataclasses import dataclass
from typing import Annotated

from ptgc.spec.fields import Range
from ptgc.spec.plan import DecodePlan
from ptgc.spec.loop import Loop
from ptgc.spec.strategies.base import Strategy
from ptgc.spec.strategies.ngram import NgramDrafter
from ptgc.spec.tree import TreeSpec


@dataclass(frozen=True)
class EchoOptions:
    most_copies: Annotated[int, Range(1, 9)] = 4
    """Most tokens that are copied in a round."""


def plan(options, facts):
    drafter = NgramDrafter(options.most_copies, 2, 2)
    return DecodePlan("echo", drafter=drafter, tree=TreeSpec.chain(options.most_copies))


STRATEGY = Strategy(
    name="echo",
    loop=Loop.SPECULATIVE,
    guarantee=Guarantee.LOSSLESS,
    summary="Copies what it has said before.",
    options=EchoOptions,
    plan=plan,
    exporter="ptgc.exporters.strategies.causal:EXPORTER",
)
'''


def install(folder: Path, package: str, name: str, code: str) -> Path:
    """A package whose module has a strategy under an entry point; gives the folder for the path."""
    module = package.replace("-", "_")
    metadata = folder / f"{module}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[ptgc.strategies]\n{name} = {module}:STRATEGY\n")
    (folder / f"{module}.py").write_text(code)
    return folder
