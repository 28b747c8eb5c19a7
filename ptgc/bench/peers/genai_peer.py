"""onnxruntime-genai as a peer."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from ptgc.bench.contestants import PLAIN, Entrant
from ptgc.bench.engines.genai_engine import NGRAM
from ptgc.bench.genai_folder import PRECISIONS, genai_folder, genai_pair, genai_version
from ptgc.bench.peers.base import Peer, PeerTask
from ptgc.errors import BackendError
from ptgc.extras import how_to_install
from ptgc.spec.bundle import Build


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
