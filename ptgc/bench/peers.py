"""Peers: other engines on the same checkpoint, at the precision of the build if they have it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ptgc.bench.checkpoint_files import CheckpointFiles
from ptgc.bench.contestants import PLAIN, Entrant
from ptgc.bench.engines.genai_engine import NGRAM
from ptgc.bench.genai_folder import PRECISIONS, genai_folder, genai_pair, genai_version
from ptgc.errors import BackendError
from ptgc.extras import how_to_install
from ptgc.spec.bundle import Build
from ptgc.spec.plan import DecodePlan
from ptgc.spec.strategies.ngram import NgramDrafter

_DRAFT_TOKENS = 5  # per round, if the bundle's plan has no drafter model
_LOOKUP_TOKENS, _LOOKUP_NGRAM = 10, 2  # from transformers' documentation, if the plan has no lookup


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


class TransformersPeer(Peer):
    """PyTorch: plain, assisted generation and prompt lookup. It runs integer precisions in float32."""

    name = "transformers"

    def require(self) -> None:
        """See `Peer`."""
        if find_spec("torch") is None or find_spec("transformers") is None:
            raise BackendError("transformers or PyTorch is not installed.", f"Install them: {how_to_install('export')}")

    def precision(self, build: Build) -> str | None:
        """See `Peer`."""
        own = build.manifest.precision["target"]
        return own if own in ("float16", "bfloat16") else "float32"

    def entrants(self, task: PeerTask, precision: str, progress: Callable[[str], None]) -> list[Entrant]:  # noqa: ARG002
        """See `Peer`; there is nothing to make."""
        own = task.plan.drafter
        lookup = own if isinstance(own, NgramDrafter) else NgramDrafter(_LOOKUP_TOKENS, _LOOKUP_NGRAM)
        settings = {
            "model": str(task.target.path),
            "drafter": str(task.drafter.path) if task.drafter else None,
            "dtype": precision,
            "num_threads": task.num_threads,
            "num_draft_tokens": task.num_draft_tokens,
            "lookup_tokens": lookup.num_draft_tokens,
            "lookup_ngram": lookup.max_ngram_size,
        }
        modes = (PLAIN, "prompt-lookup", *(("assisted",) if task.drafter else ()))
        facts = {name: value for name, value in settings.items() if name not in ("model", "drafter")}
        return [Entrant(self.name, precision, self.name, settings, modes, facts)]


class GenaiPeer(Peer):
    """onnxruntime-genai: plain, n-gram and draft model, with folders made by its own builder."""

    name = "onnxruntime-genai"

    def require(self) -> None:
        """See `Peer`."""
        genai_version()
        if find_spec("torch") is None or find_spec("transformers") is None:
            raise BackendError(
                "onnxruntime-genai's model builder needs PyTorch and transformers, which are not installed.",
                f"Install them: {how_to_install('bench', 'export')}",
            )

    def precision(self, build: Build) -> str | None:
        """See `Peer`."""
        own = build.manifest.precision["target"]
        return own if own in PRECISIONS else None

    def entrants(self, task: PeerTask, precision: str, progress: Callable[[str], None]) -> list[Entrant]:
        """See `Peer`."""
        target = genai_folder(task.target, precision, progress)
        found = [self._entrant(task, precision, target, (PLAIN, "ngram"))]
        if task.drafter is not None:
            pair = genai_pair(target, genai_folder(task.drafter, precision, progress))
            found.append(self._entrant(task, precision, pair, ("draft",)))
        return found

    def _entrant(self, task: PeerTask, precision: str, folder: Path, modes: tuple[str, ...]) -> Entrant:
        settings = {
            "folder": str(folder),
            "num_threads": task.num_threads,
            "num_draft_tokens": task.num_draft_tokens,
        }
        facts = {
            "weight_bytes": sum(path.stat().st_size for path in folder.rglob("*.onnx*")),
            "ngram": NGRAM,
            "num_draft_tokens": task.num_draft_tokens,
        }
        return Entrant(self.name, precision, self.name, settings, modes, facts)


PEERS: dict[str, Peer] = {peer.name: peer for peer in (TransformersPeer(), GenaiPeer())}
