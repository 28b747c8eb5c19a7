"""Peer: the interface to another engine, and what peers with a converter have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ptgc.bench.checkpoint_files import CheckpointFiles
from ptgc.bench.contestants import Entrant
from ptgc.bench.converted import converted
from ptgc.errors import BackendError
from ptgc.extras import how_to_install
from ptgc.spec.bundle import Build
from ptgc.spec.plan import DecodePlan

_DRAFT_TOKENS = 5  # per round, if the bundle's plan has no drafter model


@dataclass(frozen=True)
class PeerTask:
    """What a peer is loaded with."""

    target: CheckpointFiles
    """The checkpoint that the bundle was exported from."""
    drafter: CheckpointFiles | None
    """The checkpoint of a drafter."""
    plan: DecodePlan
    """The bundle's plan; peers draft the same number of tokens."""
    num_threads: int
    """Threads of every engine."""
    max_length: int
    """Tokens of the longest prompt and its text."""

    @property
    def num_draft_tokens(self) -> int:
        """Draft tokens of a round with a drafter model."""
        own = self.plan.drafter
        return own.num_draft_tokens if own.roles else _DRAFT_TOKENS


class Peer(ABC):
    """Another engine."""

    name: str
    """Its name for `--against`."""

    @abstractmethod
    def require(self) -> None:
        """Check that it is installed.

        Raises:
            BackendError: It is not installed; the error says how to install it.
        """

    @abstractmethod
    def precision(self, build: Build) -> str | None:
        """Its precision that is nearest to a build's; None if it has nothing similar."""

    @abstractmethod
    def entrants(self, task: PeerTask, precision: str, progress: Callable[[str], None]) -> list[Entrant]:
        """Its entrants at a precision; makes missing files."""


class ConvertedPeer(Peer):
    """A peer that reads its own file format, made by a converter (`ptgc.bench.convert`)."""

    extra: str
    """The extra of pyproject.toml that installs it."""
    modules: tuple[str, ...]
    """The modules that it and its converter import; the first one is its own."""
    precisions: tuple[str, ...]
    """The precisions that it runs at."""

    def require(self) -> None:
        """See `Peer`."""
        missing = [module for module in self.modules if find_spec(module) is None]
        if missing:
            own = missing[0] == self.modules[0]
            problem = "is not installed" if own else f"needs modules that are not installed: {', '.join(missing)}"
            raise BackendError(f"{self.name} {problem}.", f"Install it: {how_to_install(self.extra, 'export')}")

    def precision(self, build: Build) -> str | None:
        """See `Peer`."""
        own = build.manifest.precision["target"]
        return own if own in self.precisions else None

    def converted(self, checkpoint: CheckpointFiles, precision: str, progress: Callable[[str], None]) -> Path:
        """The file with a checkpoint's weights in its format; made if it is not cached."""
        return converted(self.name, checkpoint, precision, progress)
