"""Acceptance rules by name, and the parameters of those that have some."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Annotated, Any

from ptgc.spec.fields import Range
from ptgc.spec.limits import MAX_CANDIDATES, MAX_MARGIN

Share = Annotated[float, Range(0, 1)]
"""A probability, or a part of one."""
Candidates = Annotated[int, Range(1, MAX_CANDIDATES)]
"""How many of the likeliest tokens may be accepted."""
Margin = Annotated[float, Range(0, MAX_MARGIN)]
"""A difference of log-probabilities."""


class AcceptanceRule(str, Enum):
    """How a proposal is compared with the target."""

    MATCH = "match"
    """Keeps the longest path on which every token is the target's own choice after its parent: the argmax, or, when
    sampling, what it samples with the randomness of that position. The text equals that of plain decoding, token for
    token."""
    SPECULATIVE = "speculative"
    """When sampling, a draft is accepted with probability min(1, p / q), and the first rejected draft is replaced by a
    sample from the residual distribution (Leviathan et al., arXiv 2211.17192, section 2.3); in a tree, the children of
    a node are tried in turn (SpecInfer, arXiv 2305.09781, section 4.3). This keeps the distribution of plain decoding
    and accepts more drafts, but does not give the same text. For greedy decoding it is `match`."""
    BLOCK = "block"
    """The same guarantee for chains, with all drafts accepted jointly (Sun et al., arXiv 2403.10444): never fewer than
    with `speculative` on average, often more. For greedy decoding it is `match`."""
    TYPICAL = "typical"
    """Lossy: accepts every draft that is likely enough for the entropy of the target's distribution; see
    TypicalAcceptance."""
    RELAXED = "relaxed"
    """Lossy: accepts every draft that is nearly as likely as the target's best token; see RelaxedAcceptance."""

    @property
    def is_lossy(self) -> bool:
        """Whether texts have another distribution than those of plain decoding."""
        return self in (AcceptanceRule.TYPICAL, AcceptanceRule.RELAXED)


@dataclass(frozen=True)
class TypicalAcceptance:
    """Accepts a draft d if p(d) > min(epsilon, delta exp(-H(p))), where H is the entropy of the target's p.

    Source: Medusa, arXiv 2401.10774, section 2.3.1. The defaults are those of its published code (`posterior_threshold`
    and `posterior_alpha`), with delta the square root of epsilon, as the paper recommends.
    """

    epsilon: Share = 0.09
    """Probability that is always enough."""
    delta: Share = 0.3
    """Share of exp(-H) that is enough: where the target is undecided, less is."""

    def to_json(self) -> dict[str, Any]:
        """These parameters as the plan writes them."""
        return asdict(self)


@dataclass(frozen=True)
class RelaxedAcceptance:
    """Accepts a draft that is among the `top_k` likeliest tokens, with ln p at most `margin` below that of the best.

    In the manner of TensorRT-LLM's relaxed acceptance for the drafts of DeepSeek-R1, whose margin is a difference of
    probabilities.
    """

    top_k: Candidates = 10
    """How many of the likeliest tokens may be accepted."""
    margin: Margin = 0.6
    """Largest difference between the log-probabilities of the best token and of the draft."""

    def to_json(self) -> dict[str, Any]:
        """These parameters as the plan writes them."""
        return asdict(self)
