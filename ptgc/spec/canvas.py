"""CanvasPlan: how the masked positions of a canvas are filled."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any


class Unmasking(str, Enum):
    """Which masked positions a round fills."""

    CONFIDENCE = "confidence"
    """The same number every round, the most confident first (MaskGIT, arXiv 2202.04200; LLaDA, arXiv 2502.09992)."""
    THRESHOLD = "threshold"
    """All above a confidence, at least the most confident one (Fast-dLLM, arXiv 2505.22618, section 3.3)."""


@dataclass(frozen=True)
class CanvasPlan:
    """The policies of the canvas loop."""

    mask_token_id: int
    """Stands at a position that is still to be filled."""
    num_steps: int
    """Rounds of a whole canvas; with `threshold` the most."""
    unmasking: Unmasking = Unmasking.CONFIDENCE
    """Which positions a round fills."""
    threshold: float = 0.0
    """threshold: fill every position of more confidence, from 0 to 1."""
    block_length: int = 0
    """Positions filled before the next ones are begun; 0 for all at once."""

    def to_json(self) -> dict[str, Any]:
        """These policies as the manifest writes them."""
        return asdict(self) | {"unmasking": self.unmasking.value}

    @staticmethod
    def from_json(data: dict[str, Any]) -> CanvasPlan:
        """Policies from the manifest's form."""
        return CanvasPlan(
            mask_token_id=data["mask_token_id"],
            num_steps=data["num_steps"],
            unmasking=Unmasking(data["unmasking"]),
            threshold=data["threshold"],
            block_length=data["block_length"],
        )
