"""OneShotPlan: how a text is read from a single run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Annotated, Any

from ptgc.spec.fields import Range, TokenId
from ptgc.spec.limits import MAX_UPSAMPLING


class OneShotPath(str, Enum):
    """How the rows of the run become a text."""

    CTC = "ctc"
    """The likeliest token of every row; repeats, then blanks are dropped (Graves et al., 2006; Libovicky and Helcl,
    arXiv 1811.04719)."""


@dataclass(frozen=True)
class OneShotPlan:
    """The policies of the one-shot loop."""

    path: OneShotPath
    """How rows become a text."""
    blank_token_id: TokenId
    """ctc: the token that stands for nothing."""
    upsampling: Annotated[int, Range(1, MAX_UPSAMPLING)]
    """Rows for each token of the source."""

    def to_json(self) -> dict[str, Any]:
        """These policies as the manifest writes them."""
        return asdict(self) | {"path": self.path.value}
