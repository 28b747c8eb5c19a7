"""CanvasPlan: how the masked positions of a canvas are filled."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Annotated, Any

from ptgc.spec.fields import Range, TokenId
from ptgc.spec.limits import MAX_LENGTH, MAX_ROUNDS


class Unmasking(str, Enum):
    """Which masked positions a round fills."""

    CONFIDENCE = "confidence"
    """The same number every round, the most confident first (MaskGIT, arXiv 2202.04200; LLaDA, arXiv 2502.09992)."""
    THRESHOLD = "threshold"
    """All above a confidence, at least the most confident one (Fast-dLLM, arXiv 2505.22618, section 3.3)."""


@dataclass(frozen=True)
class CanvasPlan:
    """The policies of the canvas loop."""

    mask_token_id: TokenId
    """Stands at a position that is still to be filled."""
    num_steps: Annotated[int, Range(1, MAX_ROUNDS)]
    """Rounds of a whole canvas; with `threshold` the most."""
    unmasking: Unmasking = Unmasking.CONFIDENCE
    """Which positions a round fills."""
    threshold: Annotated[float, Range(0, 1)] = 0.0
    """threshold: fill every position of more confidence, from 0 to 1."""
    block_length: Annotated[int, Range(0, MAX_LENGTH)] = 0
    """Positions filled before the next ones are begun; 0 for all at once."""

    def to_json(self) -> dict[str, Any]:
        """These policies as the manifest writes them."""
        return asdict(self) | {"unmasking": self.unmasking.value}
