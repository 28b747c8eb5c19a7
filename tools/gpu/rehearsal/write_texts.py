"""Write texts with one CUDA build on the substitute and print the counts of CUDA calls; run by rehearse.py."""

from __future__ import annotations

import ctypes
import json
import sys
from typing import Any

from ptgc.runtime import Generator

_COUNTS = ("kernels", "graph_launches", "synchronisations", "allocations", "violations")
_NEW_TOKENS = 24


def _counts() -> dict[str, int]:
    numbers = (ctypes.c_long * len(_COUNTS))()
    ctypes.CDLL("libcudart.so.13").substitute_counts(numbers)
    return dict(zip(_COUNTS, numbers, strict=True))


def main(bundle: str, build: str) -> None:
    """Capture every shape with the first text, and count the calls of the second."""
    with Generator(bundle, device="cuda", build=build) as generator:
        prompt = [3, 4, 5, 3, 4, 5, 3, 4]
        generator.generate(prompt, max_new_tokens=_NEW_TOKENS, ignore_eos=True)
        recorded = _counts()
        result = generator.generate(prompt, max_new_tokens=_NEW_TOKENS, ignore_eos=True)
    after, stats = _counts(), result.statistics
    seconds = stats.decode_seconds - stats.engine_seconds
    printed: dict[str, Any] = {
        "rounds": stats.rounds,
        "graph_launches": stats.graph_launches,
        "uncaptured_runs": stats.uncaptured_runs,
        "synchronisations": stats.synchronisations,
        "host_microseconds": 1e6 * seconds / stats.rounds if stats.rounds else 0.0,
        "kernels_queued": after["kernels"] - recorded["kernels"],
        "allocations": after["allocations"] - recorded["allocations"],
        "violations": after["violations"],
    }
    print(json.dumps(printed))


if __name__ == "__main__":
    main(*sys.argv[1:])
