"""AttentionKind: which masks a role supports."""

from __future__ import annotations

from enum import Enum


class AttentionKind(str, Enum):
    """Which rows of a round may see each other; all rows see the text before the round."""

    CAUSAL = "causal"
    """Rows see all rows before them: text in order."""
    TREE = "tree"
    """Rows see some of the rows before them: their ancestors."""
    BLOCK = "block"
    """Rows may see any rows, including later ones."""
