"""EditPlan: how a text is edited until nothing changes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from ptgc.spec.fields import Range, TokenId
from ptgc.spec.limits import MAX_ROUNDS


@dataclass(frozen=True)
class EditPlan:
    """The policies of the edit loop: delete, insert placeholders, fill (Gu et al., arXiv 1905.11006)."""

    max_rounds: Annotated[int, Range(1, MAX_ROUNDS)]
    """Rounds after which a text ends as it is."""
    placeholder_token_id: TokenId
    """Stands where a token was inserted and is still to be chosen."""
    bos_token_id: TokenId
    """The first token of every canvas; never deleted."""
    eos_token_id: TokenId
    """The last token of every canvas; never deleted."""
    pad_token_id: TokenId
    """Fills a canvas behind its end."""

    def to_json(self) -> dict[str, Any]:
        """These policies as the manifest writes them."""
        return asdict(self)
