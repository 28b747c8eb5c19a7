"""The bandwidth of the device's memory, which sets the floor of every round that reads all weights once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from cuda_driver import device_facts

from parts.base import Figures, Settings
from ptgc.bench.figures import Spread

_REPEATS = 20
_BYTES = {"cuda": 4 << 30, "cpu": 256 << 20}
"""Much larger than any cache; on a device at most an eighth of its memory."""
_SMALL_BYTES = 64 << 20


def measure(settings: Settings, figures: Figures, _subject: str) -> None:
    """Time copies and reads of a large block; the better of the two is the device's bandwidth."""
    size = _SMALL_BYTES if settings.small else _BYTES[settings.device]
    if settings.device == "cuda":
        size = min(size, device_facts()["memory_bytes"] // 8 // 4 * 4)
    runs = _on_cuda(size) if settings.device == "cuda" else _on_cpu(size)
    figures.put(block_bytes=size)
    # A copy reads the block and writes it.
    for name, moved in (("copy", 2 * size), ("read", size)):
        seconds = runs[name]()
        figures.put(**{name: Spread.of(moved / one for one in seconds).to_json()})
    figures.put(bytes_per_second=max(figures.values[name]["median"] for name in ("copy", "read")))


def _on_cuda(size: int) -> dict[str, Callable[[], list[float]]]:
    import torch

    source = torch.ones(size // 4, dtype=torch.float32, device="cuda")
    target = torch.empty_like(source)

    def timed(work: Callable[[], Any]) -> list[float]:
        for _ in range(3):
            work()
        found = []
        for _ in range(_REPEATS):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            work()
            end.record()
            end.synchronize()
            found.append(begin.elapsed_time(end) / 1e3)
        return found

    return {"copy": lambda: timed(lambda: target.copy_(source)), "read": lambda: timed(source.sum)}


def _on_cpu(size: int) -> dict[str, Callable[[], list[float]]]:
    source = np.ones(size // 4, np.float32)
    target = np.zeros_like(source)

    def timed(work: Callable[[], Any]) -> list[float]:
        found = []
        for repeat in range(_REPEATS + 1):
            start = time.perf_counter()
            work()
            if repeat:
                found.append(time.perf_counter() - start)
        return found

    return {"copy": lambda: timed(lambda: np.copyto(target, source)), "read": lambda: timed(source.sum)}
