"""Draws what rounds cost, and the speedups of drafting that follow from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from ptgc.compiler.tuning.prediction import predicted_speedups
from ptgc.errors import BackendError, UsageError
from ptgc.extras import how_to_install
from ptgc.runtime.costs import CostCurve
from ptgc.spec.output import check_output_file, write_output
from ptgc.spec.tree import TreeSpec

RATES = (0.5, 0.7, 0.9)
"""Acceptance rates of a draft token for which speedups are predicted."""
SUFFIXES = (".png", ".svg", ".pdf")
"""File suffixes of the supported picture formats."""


@dataclass(frozen=True)
class MeasuredBuild:
    """A build with its costs on this device."""

    name: str
    """Name of the build."""
    curve: CostCurve
    """What its rounds cost."""
    verify_width: int
    """The widest round that verifies drafts; wider ones read prompts."""
    num_draft_tokens: int
    """The most that a round drafts."""
    acceptance: tuple[float, ...] = ()
    """From tuning: the shares of rounds with drafts that accept at least 1, 2, ... tokens."""
    rows_at_once: int = 0
    """Rows of a drafter's round that makes all drafts; 0 if it has a round for each."""
    tree: TreeSpec | None = None
    """From tuning: the part of the plan's tree that drafts fill."""
    gains: tuple[float, ...] = ()
    """From tuning: the probability that each of its drafts is accepted, with all those above it."""

    def speedups(self, acceptance: float) -> list[float]:
        """Speedup over plain decoding by number of draft tokens; see `predicted_speedups`."""
        return predicted_speedups(self.curve, self.num_draft_tokens, acceptance, self.rows_at_once)

    @property
    def tuned_speedups(self) -> list[float]:
        """The same with the acceptance that tuning found, up to the tuned tree's size; empty without tuning."""
        if self.tree is not None:
            return predicted_speedups(self.curve, len(self.gains), self.gains, self.rows_at_once, self.tree)
        if not self.acceptance or not self.num_draft_tokens:
            return []
        return predicted_speedups(self.curve, self.num_draft_tokens, self.acceptance, self.rows_at_once)


def check_picture(path: Path) -> None:
    """Refuse a file that cannot become a picture, before any measuring.

    Raises:
        UsageError: The suffix is not that of a picture.
        BackendError: The drawing library is not installed.
        StorageError: It cannot be written.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--picture is '{path}'; its name must end in {', '.join(SUFFIXES)}.")
    try:
        import matplotlib  # noqa: F401  # only whether it is there
    except ImportError as error:
        raise BackendError("Drawing needs matplotlib.", f"Install it: {how_to_install('plot')}") from error
    check_output_file(path)


def draw_costs(builds: Sequence[MeasuredBuild], path: Path) -> None:
    """Draw the cost of every build's rounds by width, and predicted speedups of the last build that drafts.

    Args:
        builds: Measured builds, oldest first.
        path: Ends in .png, .svg or .pdf.

    Raises:
        StorageError: It cannot be written.
    """
    from matplotlib.figure import Figure

    drafting = [build for build in builds if build.num_draft_tokens > 0]
    figure = Figure(figsize=(11 if drafting else 6, 4.2), layout="constrained")
    panels: Any = figure.subplots(1, 2 if drafting else 1, squeeze=False)
    _draw_rounds(panels[0][0], builds)
    if drafting:
        _draw_speedups(panels[0][1], drafting[-1])
    picture = BytesIO()
    figure.savefig(picture, format=path.suffix[1:].lower(), dpi=150)
    write_output(path, picture.getvalue())


def _draw_rounds(axes: Any, builds: Sequence[MeasuredBuild]) -> None:
    """Plot milliseconds by rows: the median as a line, the range of all runs as a band."""
    for build in builds:
        rounds = {width: cost for width, cost in build.curve.rounds.items() if width <= build.verify_width}
        widths = sorted(rounds)
        (line,) = axes.plot(widths, [rounds[w].median * 1e3 for w in widths], marker="o", ms=3, label=build.name)
        low, high = ([getattr(rounds[w], edge) * 1e3 for w in widths] for edge in ("minimum", "maximum"))
        axes.fill_between(widths, low, high, color=line.get_color(), alpha=0.15, linewidth=0)
    threads = ", ".join(sorted({str(build.curve.num_threads) for build in builds}))
    axes.set(xlabel="rows of a round", ylabel="milliseconds", title=f"What a round costs, {threads} threads")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)


def _draw_speedups(axes: Any, build: MeasuredBuild) -> None:
    """Plot the speedup over plain decoding by number of draft tokens."""
    numbers = range(build.num_draft_tokens + 1)
    for rate in RATES:
        found = build.speedups(rate)
        axes.plot(numbers, found, marker="o", ms=3, label=f"{rate:.0%} of drafts accepted")
    if found := build.tuned_speedups:
        axes.plot(range(len(found)), found, color="black", marker="s", ms=3, label="as on the tuned prompts")
    axes.axhline(1, color="gray", linewidth=1)
    axes.set(xlabel="draft tokens of a round", ylabel="tokens a second over plain decoding", title=build.name)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
