"""AttentionKind: which masks a role takes."""

from __future__ import annotations

from enum import Enum


class AttentionKind(str, Enum):
    """What the rows of a round may see of each other; all see the text before them."""

    CAUSAL = "causal"
    """All rows before them: text in order."""
    TREE = "tree"
    """Some of the rows before them: their ancestors."""
    BLOCK = "block"
    """Any rows, including those behind them."""
