"""How many threads an engine may have."""

from __future__ import annotations

import os

from ptgc.errors import UsageError


def check_num_threads(num_threads: int) -> int:
    """Return the number if it is valid; the core refuses the same numbers.

    Raises:
        UsageError: It is below 1, or so large that starting the threads would take too long.
    """
    most = max(256, os.cpu_count() or 1)
    if 1 <= num_threads <= most:
        return num_threads
    raise UsageError(
        f"num_threads is {num_threads}; it must be from 1 to {most}.", "Take as many as there are processors, or fewer."
    )
