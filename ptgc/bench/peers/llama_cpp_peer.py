"""llama.cpp as a peer."""

from __future__ import annotations

from collections.abc import Callable

from ptgc.bench.contestants import PLAIN, Entrant
from ptgc.bench.converters.llama_cpp_converter import FILE_TYPES
from ptgc.bench.peers.base import ConvertedPeer, PeerTask

LOOKUP = {"max_ngram_size": 2, "num_pred_tokens": 10}
"""Its defaults. Its documentation recommends 2 tokens on CPUs, but texts that repeat their prompt gain from 10."""


class LlamaCppPeer(ConvertedPeer):
    """llama.cpp through llama-cpp-python: plain and prompt lookup. The wrapper has no draft models."""

    name = "llama.cpp"
    extra = "bench-llama-cpp"
    modules = ("llama_cpp", "gguf", "safetensors", "torch", "transformers")
    precisions = tuple(FILE_TYPES)

    def entrants(self, task: PeerTask, precision: str, progress: Callable[[str], None]) -> list[Entrant]:
        """See `Peer`."""
        file = self.converted(task.target, precision, progress)
        shared = {
            "num_threads": task.num_threads,
            "max_length": task.max_length + LOOKUP["num_pred_tokens"],
            "cache_type": "GGML_TYPE_F32" if precision == "float32" else "GGML_TYPE_F16",
        }
        facts = {"weight_bytes": file.stat().st_size, "weights": FILE_TYPES[precision], **shared}
        return [
            Entrant(
                self.name,
                precision,
                self.name,
                {"file": str(file), "lookup": lookup, **shared},
                (mode,),
                {**facts, "lookup": lookup},
            )
            for mode, lookup in ((PLAIN, None), ("prompt-lookup", LOOKUP))
        ]
