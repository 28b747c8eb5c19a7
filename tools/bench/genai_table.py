"""The tables that bench_genai.py prints."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def print_tables(report: dict[str, Any], console: Console) -> None:
    """Print speeds, ratios and what differs."""
    console.print(_speeds(report["precisions"]))
    console.print(_ratios(report["precisions"]))
    best = report["best"]
    if best is not None:
        console.print(
            f"Best of ptgc ({best['ptgc']}) over best of genai ({best['genai']}): "
            f"{best['median']:.2f} (worst {best['worst']:.2f})",
            markup=False,
        )
    for precision, summary in report["precisions"].items():
        for pair, prompts in summary["differing_prompts"].items():
            if prompts:
                console.print(f"{precision}, {pair}: {len(prompts)} texts differ", markup=False)
    for engine, waited in report["waiting"].items():
        milliseconds = 1e3 * waited["cpu_seconds_a_wait"]
        console.print(
            f"{engine} while it waited for its turn: {milliseconds:.0f} ms of processor time a wait, "
            f"{waited['cpu_share']:.2%} of the time",
            markup=False,
        )


def _speeds(precisions: dict[str, Any]) -> Table:
    table = Table(title="Decoding")
    table.add_column("precision")
    table.add_column("engine", no_wrap=True)
    for name in ("tokens/s", "over prompts", "repeats", "accept", "copied"):
        table.add_column(name, justify="right")
    for precision, summary in precisions.items():
        for name, figures in summary["contestants"].items():
            speed = figures["tokens_per_second"]
            table.add_row(
                precision,
                name,
                f"{speed['median']:.1f}",
                f"{speed['minimum']:.1f}-{speed['maximum']:.1f}",
                f"{figures['spread_of_repeats']:.1%}",
                f"{figures['accept_length']['median']:.2f}",
                f"{figures['copied_share']['median']:.0%}",
            )
        table.add_section()
    return table


def _ratios(precisions: dict[str, Any]) -> Table:
    table = Table(title="Ratios of tokens/s, prompt by prompt")
    table.add_column("precision")
    table.add_column("ratio", no_wrap=True)
    for name in ("median", "worst", "best"):
        table.add_column(name, justify="right")
    for precision, summary in precisions.items():
        for name, found in summary["ratios"].items():
            table.add_row(precision, name, *(f"{found[key]:.2f}" for key in ("median", "worst", "best")))
        table.add_section()
    return table
