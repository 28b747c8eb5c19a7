"""Estimates of the memory and time that compiling an engine takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ptgc.errors import BuildError

# Fitted to measurements of tensorrt-rtx 1.7.1.116 on two cores (docs/tensorrt.md): peak memory was 0.9 GB for 76 MB of
# weights, 2.1 GB for 538 MB, and, with the compiler's own growth, 3.2 GB for 831 MB.
_BASE_BYTES = 700_000_000
_BYTES_PER_WEIGHT_BYTE = 3.0
_SECONDS_PER_GB = {"int8": 220.0, "w8a8": 220.0, "fp8": 220.0, "int4": 90.0}
_FLOAT_SECONDS_PER_GB = 30.0
_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class CompileCost:
    """Estimated cost of compiling one engine."""

    memory: int
    """Peak memory in bytes."""
    seconds: float
    """Time on two cores."""

    def __str__(self) -> str:
        return f"about {self.memory / 1e9:.1f} GB of memory and {self.seconds:.0f} s"


def estimate(weight_bytes: int, precision: str) -> CompileCost:
    """Estimate the cost of compiling one engine.

    Args:
        weight_bytes: Size of the prepared graph's weights.
        precision: Precision of the role's weights.
    """
    rate = _SECONDS_PER_GB.get(precision, _FLOAT_SECONDS_PER_GB)
    memory = _BASE_BYTES + _BYTES_PER_WEIGHT_BYTE * weight_bytes
    return CompileCost(int(memory), max(1.0, rate * weight_bytes / 1e9))


def require_memory(role: str, cost: CompileCost) -> None:
    """Refuse to compile if memory is short, before the system kills the process.

    Raises:
        BuildError: Less memory is available than the estimate.
    """
    available = available_memory()
    if available is not None and available < cost.memory:
        raise BuildError(
            f"Compiling role '{role}' takes {cost}; {available / 1e9:.1f} GB are free.",
            "Free memory, compile on a larger machine (ptgc build --stage prepare here, --stage compile there), or "
            "choose a smaller --precision.",
        )


def available_memory() -> int | None:
    """Bytes available to this process (system or control group, whichever is less); None if unknown."""
    found = [amount for amount in (_free_of_system(), _free_of_group()) if amount is not None]
    return min(found, default=None)


def _free_of_system() -> int | None:
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def _free_of_group() -> int | None:
    try:
        limit = int((_GROUP / "memory.max").read_text(encoding="ascii"))
        used = int((_GROUP / "memory.current").read_text(encoding="ascii"))
        # The kernel reclaims the page cache when memory is needed.
        statistics = (_GROUP / "memory.stat").read_text(encoding="ascii").splitlines()
        cached = next(int(line.split()[1]) for line in statistics if line.startswith("inactive_file "))
    except (OSError, ValueError, IndexError, StopIteration):
        return None  # no limit ("max"), or not Linux
    return max(0, limit - used + cached)
