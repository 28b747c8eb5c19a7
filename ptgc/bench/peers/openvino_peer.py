"""OpenVINO GenAI as a peer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ptgc.bench.contestants import PLAIN, Entrant
from ptgc.bench.peers.base import ConvertedPeer, PeerTask

LOOKUP = {"num_assistant_tokens": 5, "max_ngram_size": 3}
"""Settings of its prompt lookup, from its own sample."""


class OpenVinoPeer(ConvertedPeer):
    """OpenVINO GenAI: plain, prompt lookup and draft model, each with its own pipeline."""

    name = "openvino-genai"
    extra = "bench-openvino"
    modules = ("openvino_genai", "openvino_tokenizers", "nncf", "gguf", "safetensors", "torch", "transformers")
    precisions = ("float32", "int8", "int4")

    def entrants(self, task: PeerTask, precision: str, progress: Callable[[str], None]) -> list[Entrant]:
        """See `Peer`."""
        target = self.converted(task.target, precision, progress)
        found = [
            self._entrant(task, precision, target, PLAIN, {}),
            self._entrant(task, precision, target, "prompt-lookup", LOOKUP),
        ]
        if task.drafter is not None:
            drafter = self.converted(task.drafter, precision, progress)
            drafting = {"num_assistant_tokens": task.num_draft_tokens}
            found.append(self._entrant(task, precision, target, "draft", drafting, drafter))
        return found

    def _entrant(
        self,
        task: PeerTask,
        precision: str,
        target: Path,
        mode: str,
        drafting: dict[str, int],
        drafter: Path | None = None,
    ) -> Entrant:
        properties = device_properties(precision, task.num_threads)
        settings = {
            "folder": str(target.parent),
            "drafter": str(drafter.parent) if drafter else None,
            "mode": mode,
            "properties": properties,
            "drafting": drafting,
        }
        facts = {
            "weight_bytes": sum(file.stat().st_size for file in (target, drafter) if file),
            **properties,
            **drafting,
        }
        return Entrant(self.name, precision, self.name, settings, (mode,), facts)


def device_properties(precision: str, num_threads: int) -> dict[str, Any]:
    """Arithmetic in float32, which is also that of our builds; at float32 the cache is not quantised either."""
    properties: dict[str, Any] = {"INFERENCE_NUM_THREADS": num_threads, "INFERENCE_PRECISION_HINT": "f32"}
    return {**properties, "KV_CACHE_PRECISION": "f32"} if precision == "float32" else properties
