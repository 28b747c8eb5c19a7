"""GenerationDefaults: how a bundle's tokens are chosen if a request does not say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from ptgc.spec.fields import Count, Range, TokenId
from ptgc.spec.limits import MAX_VOCAB_SIZE


@dataclass(frozen=True)
class GenerationDefaults:
    """How a checkpoint's generation settings change greedy text, as far as the runtime supports it."""

    repetition_penalty: Annotated[float, Range(0.01, 100)] = 1.0
    """Divides positive and multiplies negative logits of every token of prompt and text; 1 changes nothing."""
    suppressed_token_ids: Annotated[tuple[TokenId, ...], Count(0, MAX_VOCAB_SIZE)] = ()
    """Tokens that are never chosen, ascending."""

    def to_json(self) -> dict[str, Any]:
        """These defaults as the manifest writes them."""
        return {
            "repetition_penalty": self.repetition_penalty,
            "suppressed_token_ids": list(self.suppressed_token_ids),
        }

    def problems(self) -> list[str]:
        """Tokens that are named twice."""
        ids = self.suppressed_token_ids
        return ["suppressed_token_ids must be different tokens"] if len(set(ids)) < len(ids) else []
