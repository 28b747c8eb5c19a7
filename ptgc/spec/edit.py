"""EditPlan: how a text is edited until nothing changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Annotated, Any

from ptgc.spec.fields import Count, Range, TokenId
from ptgc.spec.limits import MAX_OPERATIONS, MAX_ROUNDS


class EditStart(str, Enum):
    """The text that the first round edits."""

    EMPTY = "empty"
    """The empty text: everything is written from a source that an encoder reads."""
    SOURCE = "source"
    """The prompt itself."""


@dataclass(frozen=True)
class EditPlan:
    """The policies of the edit loop: the operations of a round, over a canvas from begin to end token."""

    operations: Annotated[tuple[str, ...], Count(1, MAX_OPERATIONS)]
    """The roles of a round, in order: `deleter, inserter, filler` of a Levenshtein transformer (arXiv 1905.11006),
    `token_inserter` of an insertion transformer (arXiv 1902.03249)."""
    max_rounds: Annotated[int, Range(1, MAX_ROUNDS)]
    """Rounds after which a text ends, finished or not."""
    bos_token_id: TokenId
    """The first token of every canvas; never deleted."""
    eos_token_id: TokenId
    """The last token of every canvas; never deleted."""
    pad_token_id: TokenId
    """Fills a canvas behind its end."""
    placeholder_token_id: TokenId | None = None
    """inserter, filler: marks an inserted token that is still to be chosen."""
    stop_token_id: TokenId | None = None
    """token_inserter: chosen if nothing is to be inserted."""
    start: EditStart = EditStart.EMPTY
    """What the first round edits."""

    def to_json(self) -> dict[str, Any]:
        """These policies as the manifest writes them."""
        return asdict(self) | {"operations": list(self.operations), "start": self.start.value}

    def problems(self) -> list[str]:
        """Roles that are not operations."""
        return ["operations has 'encoder', which edits nothing"] if "encoder" in self.operations else []

    @property
    def special_tokens(self) -> dict[str, int]:
        """The tokens that no text holds, by field."""
        names = ("bos_token_id", "eos_token_id", "pad_token_id", "placeholder_token_id", "stop_token_id")
        return {name: token for name in names if (token := getattr(self, name)) is not None}

    def first_canvas(self, given: Sequence[int]) -> list[int]:
        """The canvas that the first round edits, for the text that a user gives."""
        text = given if self.start is EditStart.SOURCE else ()
        return [self.bos_token_id, *text, self.eos_token_id]
