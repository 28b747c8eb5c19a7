"""The second act of `ptgc demo`: a diffusion model fills a canvas, one position a round and several."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from rich.panel import Panel
from rich.table import Table

from ptgc.cli.console import notes, results

if TYPE_CHECKING:
    from ptgc.runtime import GenerationResult, Generator

_PROMPT = "Once upon a time, there was a little girl named Lily. She had a small dog"
_REPEATS = 3
_THRESHOLDS = (0.95, 0.8, 0.6)


def fill_canvas(bundle: Path, build: str, num_tokens: int) -> None:
    """Fill the same canvas step by step and by thresholds, and show how many rounds and how long each took.

    Args:
        bundle: Of a masked or block diffusion model that writes stories.
        build: Its build.
        num_tokens: Positions to fill.
    """
    from ptgc.runtime import Generator

    ways: dict[str, dict[str, Any]] = {"one position a round": {"threshold": 1.0}}
    ways |= {f"all above {threshold:g}": {"threshold": threshold} for threshold in _THRESHOLDS}
    with Generator(bundle, build=build) as generator:
        runs = {
            name: _runs(generator, {**options, "max_new_tokens": num_tokens, "num_steps": num_tokens})
            for name, options in ways.items()
        }
    for name in (next(iter(runs)), list(runs)[-1]):
        results.print(Panel(_PROMPT + runs[name][0].text, title=f"a story, {name}"))
    results.print(_table(runs))


def _runs(generator: Generator, options: dict[str, Any]) -> list[GenerationResult]:
    """The same text several times, and once more while a terminal shows it, which takes time of its own."""
    from ptgc.cli.live_canvas import fill_live

    repeated = [generator.generate(_PROMPT, **options) for _ in range(_REPEATS)]
    if notes.is_terminal and generator.codec is not None:
        fill_live(generator, generator.codec, _PROMPT, options)
    return repeated


def _table(runs: dict[str, list[GenerationResult]]) -> Table:
    table = Table("a story", "rounds", "tokens a round", "tokens/s", title="masked diffusion", title_justify="left")
    for name, same in runs.items():
        stats = same[0].statistics
        speed = median(one.statistics.tokens_per_second for one in same)
        table.add_row(name, str(stats.rounds), f"{stats.mean_accept_length:.1f}", f"{speed:.0f}")
    return table
