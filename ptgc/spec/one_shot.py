"""OneShotPlan: how a text is read off a single run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any


class OneShotPath(str, Enum):
    """How the rows of the run become a text."""

    CTC = "ctc"
    """The likeliest token of every row; repeats, then blanks dropped (Graves et al., 2006; Libovicky and Helcl, arXiv
    1811.04719)."""


@dataclass(frozen=True)
class OneShotPlan:
    """The policies of the one-shot loop."""

    path: OneShotPath
    """How rows become a text."""
    blank_token_id: int
    """ctc: the token that stands for nothing."""
    upsampling: int
    """Rows for each token of the source."""

    def to_json(self) -> dict[str, Any]:
        """These policies as the manifest writes them."""
        return asdict(self) | {"path": self.path.value}

    @staticmethod
    def from_json(data: dict[str, Any]) -> OneShotPlan:
        """Policies from the manifest's form."""
        return OneShotPlan(OneShotPath(data["path"]), data["blank_token_id"], data["upsampling"])
