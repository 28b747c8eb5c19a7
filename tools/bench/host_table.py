"""The tables that bench_host.py prints."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def print_tables(report: dict[str, Any], console: Console) -> None:
    """Print host cost, loading and memory, and unused capacity."""
    console.print(_host(report["builds"]))
    console.print(_loads(report["builds"]))
    capacity = report["unused_capacity"]
    if capacity is not None:
        console.print(_capacity(capacity))


def _host(builds: dict[str, Any]) -> Table:
    table = Table(title="Decoding over bare engine runs")
    table.add_column("build", no_wrap=True)
    table.add_column("mode")
    for name in ("ratio", "from-to", "engine only", "host us/round", "round us"):
        table.add_column(name, justify="right")
    for build, figures in builds.items():
        for mode, found in figures["host"].items():
            ratio = found["ratio"]
            table.add_row(
                build,
                mode,
                f"{ratio['median']:.3f}",
                f"{ratio['minimum']:.3f}-{ratio['maximum']:.3f}",
                f"{found['engine_ratio']['median']:.3f}",
                f"{found['host_microseconds']['median']:.1f}",
                f"{found['round_microseconds']:.0f}",
            )
    return table


def _loads(builds: dict[str, Any]) -> Table:
    table = Table(title="Loading and memory")
    table.add_column("build", no_wrap=True)
    for name in ("load s", "from-to", "process s", "weights MB", "loaded MB", "after text MB", "/ weights"):
        table.add_column(name, justify="right")
    for build, figures in builds.items():
        load, weights = figures["load"], figures["weight_bytes"]
        seconds = load["load_seconds"]
        resident = [load[when]["resident_bytes"] for when in ("after_load", "after_text")]
        table.add_row(
            build,
            f"{seconds['median']:.2f}",
            f"{seconds['minimum']:.2f}-{seconds['maximum']:.2f}",
            f"{load['start_seconds']['median']:.2f}",
            f"{weights / 1e6:.0f}",
            *(f"{size / 1e6:.0f}" for size in resident),
            f"{resident[-1] / weights:.2f}" if weights else "",
        )
    return table


def _capacity(capacity: dict[str, Any]) -> Table:
    table = Table(title=f"{capacity['past_length']} tokens: {capacity['long']} over {capacity['short']}")
    for name in ("width", "long ms", "short ms", "ratio"):
        table.add_column(name, justify="right")
    for name, found in capacity.items():
        if not name.startswith("width_"):
            continue
        times = [1e3 * found[f"{which}_seconds"]["median"] for which in ("long", "short")]
        table.add_row(name.removeprefix("width_"), *(f"{time:.3f}" for time in times), f"{found['ratio']:.3f}")
    return table
