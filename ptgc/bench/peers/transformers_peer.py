"""transformers as a peer."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec

from ptgc.bench.contestants import PLAIN, Entrant
from ptgc.bench.peers.base import Peer, PeerTask
from ptgc.errors import BackendError
from ptgc.extras import how_to_install
from ptgc.spec.bundle import Build
from ptgc.spec.strategies.ngram import NgramDrafter

_LOOKUP_TOKENS, _LOOKUP_NGRAM = 10, 2  # from transformers' documentation, if the plan has no lookup


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
