"""Counting the CUDA calls of a piece of work with CUPTI: launches, copies, waits, and the device's activity."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_CALLS = ("cuda_runtime", "cuda_driver")
_ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")

Counts = dict[str, float]


def count_api_calls(work: Callable[[], Any]) -> Counts:
    """Run some work once under PyTorch's profiler, which sees every CUDA call of this process.

    Returns:
        CUDA calls by name, `kernels` and other work of the device by category, and `busy_microseconds`.
    """
    import torch
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.init()
    with tempfile.TemporaryDirectory() as folder:
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
            work()
        trace = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(trace))
        return count_events(json.loads(trace.read_text(encoding="utf-8"))["traceEvents"])


def count_events(events: list[dict[str, Any]]) -> Counts:
    """The calls in a trace in Chrome's format, and the device's activity."""
    calls = Counter(event["name"] for event in events if event.get("cat") in _CALLS)
    done = [event for event in events if event.get("cat") in _ON_DEVICE]
    kinds = Counter(f"{event['cat'].removeprefix('gpu_')}s" for event in done)
    return {**calls, **kinds, "busy_microseconds": float(sum(event.get("dur", 0.0) for event in done))}


def per_round(short: tuple[int, Mapping[str, float]], long: tuple[int, Mapping[str, float]]) -> Counts:
    """Counts per round, from the difference of a longer and a shorter text, so that reading the prompt cancels out.

    Args:
        short: Rounds and counts of one text.
        long: Rounds and counts of another text with more rounds.
    """
    rounds = long[0] - short[0]
    if rounds <= 0:
        return {}
    names = sorted({*short[1], *long[1]})
    found = {name: (long[1].get(name, 0) - short[1].get(name, 0)) / rounds for name in names}
    return {name: round(value, 3) for name, value in found.items() if value}


def summarize(counts: Mapping[str, float]) -> Counts:
    """Launches, copies and waits per round, summed over the names of calls."""
    sums = {"launches": ("Launch",), "copies": ("Memcpy", "Memset"), "waits": ("Synchronize",)}
    return {
        name: round(sum(value for call, value in counts.items() if any(part in call for part in parts)), 3)
        for name, parts in sums.items()
    }
