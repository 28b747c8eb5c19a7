"""CanvasPlan: how the masked positions of a canvas are filled."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import Enum
from typing import Annotated, Any

from ptgc.spec.fields import Range, TokenId
from ptgc.spec.limits import MAX_LENGTH, MAX_ROUNDS


class CanvasCache(str, Enum):
    """What a denoiser keeps of a canvas between rounds."""

    NONE = "none"
    """Nothing: every round reads the whole canvas."""
    BLOCK = "block"
    """Keys and values of the blocks before the one that is being filled. These blocks see nothing behind them, so they
    no longer change (BD3-LM, arXiv 2503.09573; Fast-dLLM v2, arXiv 2509.26328). Blocks begin at multiples of the block
    length."""


@dataclass(frozen=True)
class PolicyInputs:
    """Inputs of the unmasking policy in the denoiser's graph for every row: one port for each of these numbers."""

    threshold: Annotated[float, Range(0, 1)] = 1.0
    """Positions with higher confidence are filled in addition to those that a round must fill (Fast-dLLM, arXiv
    2505.22618, section 3.3); 1 for none (MaskGIT, arXiv 2202.04200; LLaDA, arXiv 2502.09992)."""


@dataclass(frozen=True)
class CanvasPlan:
    """The policies of the canvas loop; which positions a round fills is traced into the denoiser's graph."""

    mask_token_id: TokenId
    """Marks a position that is still to be filled."""
    num_steps: Annotated[int, Range(1, MAX_ROUNDS)]
    """Most rounds for a whole canvas; each fills the same number of positions or more, the most confident first."""
    block_length: Annotated[int, Range(0, MAX_LENGTH)] = 0
    """Positions that are filled and delivered before the next ones are started; 0 for all at once."""
    policy: PolicyInputs = PolicyInputs()
    """The inputs of the policy."""
    cache: CanvasCache = CanvasCache.NONE
    """What is kept between rounds."""
    shift: bool = False
    """Whether a position is predicted by the row before it, as in models that were causal before (Dream, arXiv
    2508.15487); the first position of a text is predicted by its own."""

    def to_json(self) -> dict[str, Any]:
        """These policies as the manifest writes them."""
        return asdict(self) | {"cache": self.cache.value}

    def problems(self) -> list[str]:
        """A block cache without a block length, or with rows that predict what lies behind their block."""
        if self.cache is not CanvasCache.BLOCK:
            return []
        found = ["block_length is 0; cache is block, which needs a length"] if self.block_length == 0 else []
        return (
            [*found, "shift is true; cache is block, whose rows predict their own positions"] if self.shift else found
        )
