"""Code examples in the documentation."""

from __future__ import annotations

import re

from tests.bundles import ROOT


def code_blocks(document: str, language: str) -> list[str]:
    """The code blocks of one language in a document, unchanged."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
