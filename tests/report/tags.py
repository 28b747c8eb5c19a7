"""Reads pages of HTML."""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"meta"}


class Tags(HTMLParser):
    """Checks that tags close in the order in which they opened, and keeps the text by class."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[tuple[str, str]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append((tag, dict(attrs).get("class") or ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()[0] == tag

    def handle_data(self, data: str) -> None:
        if self.open and data.strip(" "):
            self.texts.append((self.open[-1][1], data))

    def of(self, kind: str) -> list[str]:
        return [text for found, text in self.texts if found == kind]
