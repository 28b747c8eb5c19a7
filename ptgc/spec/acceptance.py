"""Acceptance rules by name."""

from __future__ import annotations

from enum import Enum


class AcceptanceRule(str, Enum):
    """How a proposal is compared with the target."""

    MATCH = "match"
    """Keeps the longest path on which every token is the target's own choice after its parent: the argmax, or, when
    sampling, what it samples with the randomness of that position. The text equals that of plain decoding, token for
    token."""
    SPECULATIVE = "speculative"
    """When sampling, a draft is accepted with probability min(1, p / q), and the first rejected draft is replaced by a
    sample from the residual distribution (Leviathan et al., arXiv 2211.17192, section 2.3). This keeps the distribution
    of plain decoding and accepts the most drafts, but does not give the same text. For greedy decoding it is
    `match`."""
