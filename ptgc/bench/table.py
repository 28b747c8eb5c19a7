"""The tables that `ptgc bench` prints."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def print_tables(report: dict[str, Any], console: Console) -> None:
    """Print the speeds of every set, ratios, and which texts differ."""
    kinds = list(report["rows"][0]["kinds"])
    for kind in kinds:
        console.print(_speeds(report["rows"], kind))
    console.print(_ratios(report["ratios"]))
    for peer, found in report["best"].items():
        for kind, best in found.items():
            if kind == "all" and len(kinds) == 1:
                continue
            console.print(
                f"Best of ptgc ({best['ours']}) over best of {peer} ({best['theirs']}), {kind}: "
                f"{best['median']:.2f} (worst {best['worst']:.2f})",
                markup=False,
            )
    for pair, prompts in report["differing_prompts"].items():
        if prompts:
            console.print(f"{pair}: {len(prompts)} texts differ", markup=False)
    for engine, waited in report["waiting"].items():
        console.print(
            f"{engine} while it waited for its turn: {1e3 * waited['cpu_seconds_a_wait']:.0f} ms of processor time "
            f"a wait, {waited['cpu_share']:.2%} of the time",
            markup=False,
        )


def _speeds(rows: list[dict[str, Any]], kind: str) -> Table:
    table = Table(title=f"{kind}: decoding", title_justify="left")
    table.add_column("engine", no_wrap=True)
    for name in ("tokens/s", "over prompts", "repeats", "speedup", "worst", "accept", "host"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        figures = row["kinds"][kind]
        low, high = figures["tokens_per_second_over_prompts"]
        table.add_row(
            row["name"],
            f"{figures['tokens_per_second']:.1f}",
            f"{low:.1f}-{high:.1f}",
            f"{figures['spread']:.1%}",
            _shown(figures["speedup"], "{:.2f}x"),
            _shown(figures["worst_speedup"], "{:.2f}x"),
            f"{figures['mean_accept_length']:.2f}",
            _shown(figures["host_overhead"], "{:.1%}"),
        )
    return table


def _shown(figure: float | None, form: str) -> str:
    return "-" if figure is None else form.format(figure)


def _ratios(ratios: dict[str, Any]) -> Table:
    table = Table(title="Ratios of tokens/s, prompt by prompt", title_justify="left")
    table.add_column("ratio", no_wrap=True)
    for name in ("median", "worst", "best"):
        table.add_column(name, justify="right")
    for name, found in ratios.items():
        table.add_row(name, *(f"{found[key]:.2f}" for key in ("median", "worst", "best")))
    return table
