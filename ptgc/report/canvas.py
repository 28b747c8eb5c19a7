"""The page of a canvas: in which order its positions were filled, and how sure the model was."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from ptgc.report.page import bar, figures, page, shown, table
from ptgc.report.rounds import Read
from ptgc.runtime.results import GenerationResult, RoundTrace

_CELL, _ROW = 6, 10  # pixels of a position and of a round in the map


def canvas_page(result: GenerationResult, pieces: Sequence[str], read: Read, prompt: str = "") -> str:
    """A self-contained page of HTML.

    Args:
        result: A text with its trace.
        pieces: What each of its tokens added to the text.
        read: The text of a token on its own.
        prompt: The prompt as text; empty leaves it out.
    """
    rounds = [one for one in result.trace if one.filled_positions]
    stats = result.statistics
    summary = [
        (str(stats.new_tokens), "new tokens"),
        (f"{stats.tokens_per_second:.1f}", "tokens per second"),
        (str(stats.rounds), "rounds"),
        (f"{stats.mean_accept_length:.2f}", "tokens per round"),
        (f"{1e3 * stats.decode_seconds / max(stats.rounds, 1):.1f} ms", "a round"),
        ("yes" if result.lossless else "no", "lossless"),
        (result.finish_reason, "end"),
    ]
    sections = [
        (f"Build {result.build}", figures(summary)),
        ("Text", _text(rounds, pieces, prompt)),
        ("Order", _map(rounds)),
        ("Rounds", _rounds(rounds, read)),
    ]
    return page(f"{result.strategy}: {stats.new_tokens} tokens in {stats.rounds} rounds", sections)


def _first(rounds: Sequence[RoundTrace]) -> int:
    """The position of the text's first token: that of the first mask."""
    return min((position for one in rounds for position in one.filled_positions), default=0)


def _text(rounds: Sequence[RoundTrace], pieces: Sequence[str], prompt: str) -> str:
    """The text, token by token; a link leads to the round that filled it last."""
    filled = {
        position: (number, confidence)
        for number, one in enumerate(rounds, 1)
        for position, confidence in zip(one.filled_positions, one.confidences, strict=True)
    }
    spans = [f'<span class="prompt">{escape(prompt)}</span>'] if prompt else []
    for position, piece in enumerate(pieces, _first(rounds)):
        number, confidence = filled.get(position, (0, 0.0))
        if number == 0:  # given with the prompt
            spans.append(f'<span class="prompt">{escape(piece)}</span>')
            continue
        spans.append(
            f'<a class="draft" style="--depth:{8 * number / len(rounds):.2f}" href="#round-{number}" '
            f'title="round {number} of {len(rounds)}, confidence {confidence:.2f}">{escape(piece)}</a>'
        )
    legend = "<p>The darker a token, the later it was filled. A token leads to its round.</p>"
    return f'{legend}<div class="text">{"".join(spans)}</div>'


def _map(rounds: Sequence[RoundTrace]) -> str:
    """Positions from left to right, rounds from top to bottom; a cell for every position that a round filled."""
    first = _first(rounds)
    width = 1 + max((position for one in rounds for position in one.filled_positions), default=first) - first
    cells = [
        f'<rect x="{(position - first) * _CELL}" y="{row * _ROW}" width="{_CELL - 1}" height="{_ROW - 1}" '
        f'opacity="{0.15 + 0.85 * confidence:.2f}"><title>position {position}, round {row + 1}, '
        f"confidence {confidence:.2f}</title></rect>"
        for row, one in enumerate(rounds)
        for position, confidence in zip(one.filled_positions, one.confidences, strict=True)
    ]
    legend = "<p>Positions from left to right, rounds from top to bottom; the paler, the less sure was the model.</p>"
    box = f"0 0 {width * _CELL} {len(rounds) * _ROW}"
    named = f'role="img" aria-label="Order of filling" preserveAspectRatio="xMinYMin" viewBox="{box}"'
    return f'{legend}<svg class="map" {named}>{"".join(cells)}</svg>'


def _rounds(rounds: Sequence[RoundTrace], read: Read) -> str:
    longest = max((one.round_seconds for one in rounds), default=0.0) or 1.0
    rows = [
        (
            f'<span id="round-{number}">{number}</span>',
            _fills(one, read),
            f"{sum(one.confidences) / len(one.confidences):.2f}",
            str(one.width),
            f"{one.round_seconds * 1e3:.1f} ms{bar({'target': one.round_seconds}, longest)}",
        )
        for number, one in enumerate(rounds, 1)
    ]
    return table(("round", "filled, in the text's order", "mean confidence", "rows", "time"), rows)


def _fills(one: RoundTrace, read: Read) -> str:
    codes = (
        f'<code class="yes" title="position {position}, confidence {confidence:.2f}">{shown(read(token))}</code>'
        for position, token, confidence in zip(one.filled_positions, one.filled_ids, one.confidences, strict=True)
    )
    return f'<div class="tree">{" ".join(codes)}</div>'
