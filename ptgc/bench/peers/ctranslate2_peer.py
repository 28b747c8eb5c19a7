"""CTranslate2 as a peer."""

from __future__ import annotations

from collections.abc import Callable

from ptgc.bench.contestants import PLAIN, Entrant
from ptgc.bench.converters.ctranslate2_converter import PRECISIONS
from ptgc.bench.peers.base import ConvertedPeer, PeerTask


class Ctranslate2Peer(ConvertedPeer):
    """CTranslate2, which decodes plainly."""

    name = "ctranslate2"
    extra = "bench-ctranslate2"
    modules = ("ctranslate2", "torch", "transformers")
    precisions = PRECISIONS

    def entrants(self, task: PeerTask, precision: str, progress: Callable[[str], None]) -> list[Entrant]:
        """See `Peer`."""
        file = self.converted(task.target, precision, progress)
        settings = {"folder": str(file.parent), "precision": precision, "num_threads": task.num_threads}
        facts = {"weight_bytes": file.stat().st_size}
        return [Entrant(self.name, precision, self.name, settings, (PLAIN,), facts)]
