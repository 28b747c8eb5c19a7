"""Acceptance rules by name."""

from __future__ import annotations

from enum import Enum


class AcceptanceRule(str, Enum):
    """How a proposal is compared with the target."""

    MATCH = "match"
    """The longest path whose every token is the target's own choice after its parent: its argmax, or, when sampling,
    what it draws with the randomness of that position. The text is that of plain decoding, token for token."""
    SPECULATIVE = "speculative"
    """When sampling, a draft is kept with probability min(1, p / q), and the first that is not is replaced by a draw
    from the rest (Leviathan et al., arXiv 2211.17192, section 2.3): the distribution of plain decoding with the most
    drafts kept, though not the same text. Greedy decoding is `match`."""
