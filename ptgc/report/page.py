"""The frame of a page: one file without links to others, in light and dark colours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files


def page(title: str, sections: Iterable[tuple[str, str]]) -> str:
    """A whole page.

    Args:
        title: Plain text.
        sections: Heading and HTML of each.
    """
    style = files("ptgc.report").joinpath("page.css").read_text(encoding="utf-8")
    body = "\n".join(f"<section><h2>{escape(heading)}</h2>\n{content}</section>" for heading, content in sections)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style></head>\n"
        f"<body><main><h1>{escape(title)}</h1>\n{body}\n</main></body></html>\n"
    )


def figures(pairs: Iterable[tuple[str, str]]) -> str:
    """Figures with their names below, side by side."""
    cells = "".join(f"<div><b>{escape(figure)}</b><span>{escape(name)}</span></div>" for figure, name in pairs)
    return f'<div class="figures">{cells}</div>'


def shown(text: str) -> str:
    """A token with its white space made visible."""
    return escape(text.replace("\n", "\N{RETURN SYMBOL}")) or "&empty;"


def bar(parts: Mapping[str, float], total: float) -> str:
    """A bar of coloured parts; their classes are `c-` and a name, their lengths shares of `total`."""
    spans = "".join(
        f'<i class="c-{name}" style="width:{100 * value / total:.2f}%"></i>'
        for name, value in parts.items()
        if value > 0
    )
    return f'<div class="bar">{spans}</div>'


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are HTML."""
    head = "".join(f"<th>{escape(one)}</th>" for one in header)
    body = "\n".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>"
