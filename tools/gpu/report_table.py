"""The tables at the end of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

Parts = Mapping[str, Mapping[str, Any]]


def print_report(report: Mapping[str, Any], console: Console) -> None:
    """Print the status of every part and the main figures."""
    parts: Parts = report["parts"]
    console.print(_parts(report))
    if bandwidth := parts.get("bandwidth", {}).get("bytes_per_second"):
        console.print(f"Memory bandwidth: {bandwidth / 1e9:.0f} GB/s")
    for table in (_exactness(parts), _widths(parts), _modes(parts), _peers(parts)):
        if table.row_count:
            console.print(table)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", no_wrap=not number)
    return table


def _parts(report: Mapping[str, Any]) -> Table:
    device = report["machine"].get("device", {})
    name = f"{device['name']}, {device['compute_capability']}" if device else report["device"]
    table = _table(f"Parts on {name}", "part", "status", "s", "what it says")
    table.columns[-1].justify = "left"
    for part, entry in report["parts"].items():
        said = entry.get("error", "").splitlines()
        table.add_row(part, entry["status"], f"{entry['seconds']:.1f}", said[-1] if said else "")
    return table


def _exactness(parts: Parts) -> Table:
    names = ("bundle", "build", "PyTorch's tokens", "drafted", "sampled", "accepted", "parted", "problems")
    table = _table("Exactness", *names)
    for part, entry in parts.items():
        for found in entry.get("checks", ()):
            table.add_row(
                found.get("bundle", part.partition("/")[2]),
                found["variant"].removeprefix("onnxruntime "),
                f"{found['kept']}/{found['tokens']}",
                *(str(found.get(name, "-")) for name in ("drafted_equal", "sampled_equal", "accepted_tokens")),
                str(len(found["parted"])),
                str(len(found["problems"])),
            )
    return table


def _widths(parts: Parts) -> Table:
    table = _table("Engine time of a round", "build", "width", "us", "us floor")
    table.add_column("floor", justify="right")
    for part, entry in _builds(parts):
        for width, found in entry.get("widths", {}).items():
            floor = found.get("floor_seconds")
            table.add_row(
                part,
                width,
                f"{1e6 * found['seconds']['median']:.1f}",
                _shown(floor and 1e6 * floor, "{:.1f}"),
                _shown(found.get("floor_share"), "{:.0%}"),
            )
    return table


def _modes(parts: Parts) -> Table:
    names = ("build", "mode", "tokens/s", "floor", "accept", "us/round", "host us", "graphs", "runs", "syncs", "CUDA")
    table = _table("Decoding, a round", *names)
    for part, entry in _builds(parts):
        for mode in ("plain", "drafts"):
            if mode not in entry:
                continue
            found = entry[mode]
            counts, calls = found["per_round"], found.get("cuda_per_round", {})
            table.add_row(
                part,
                mode,
                f"{found['tokens_per_second']:.1f}",
                _shown(found.get("floor_share"), "{:.0%}"),
                f"{found['accept_length']:.2f}",
                f"{found['round_microseconds']:.1f}",
                f"{found['host_microseconds']['median']:.1f}",
                *(_shown(counts.get(name), "{:.2f}") for name in ("graph_launches", "uncaptured_runs")),
                _shown(counts.get("synchronisations"), "{:.2f}"),
                " ".join(f"{value:g} {name}" for name, value in calls.items()) or "-",
            )
    return table


def _peers(parts: Parts) -> Table:
    table = _table("Peers", "engine", "tokens/s", "from-to", "prefill ms", "ptgc is faster", "same tokens")
    for row in parts.get("peers", {}).get("rows", ()):
        speed = row["tokens_per_second"]
        table.add_row(
            row["name"],
            f"{speed['median']:.1f}",
            f"{speed['minimum']:.1f}-{speed['maximum']:.1f}",
            f"{1e3 * row['prefill_seconds']['median']:.1f}",
            _shown(row.get("speedup_of_ptgc"), "{:.2f}x"),
            _shown(row.get("same_tokens"), "{}"),
        )
    return table


def _builds(parts: Parts) -> Iterator[tuple[str, Mapping[str, Any]]]:
    yield from ((part, entry) for part, entry in parts.items() if "build" in entry)


def _shown(figure: Any, form: str) -> str:
    return "-" if figure is None else form.format(figure)
