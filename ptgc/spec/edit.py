"""EditPlan: how a text is edited until nothing changes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class EditPlan:
    """The policies of the edit loop: delete, insert placeholders, fill (Gu et al., arXiv 1905.11006)."""

    max_rounds: int
    """Rounds after which a text ends as it is."""
    placeholder_token_id: int
    """Stands where a token was inserted and is still to be chosen."""
    bos_token_id: int
    """The first token of every canvas; never deleted."""
    eos_token_id: int
    """The last token of every canvas; never deleted."""
    pad_token_id: int
    """Fills a canvas behind its end."""

    def to_json(self) -> dict[str, Any]:
        """These policies as the manifest writes them."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, Any]) -> EditPlan:
        """Policies from the manifest's form."""
        return EditPlan(**{name: data[name] for name in EditPlan.__dataclass_fields__})
