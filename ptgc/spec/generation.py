"""GenerationDefaults: how a bundle's texts are chosen where a request does not say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ptgc.errors import BundleError

_PENALTIES = (0.01, 100.0)


@dataclass(frozen=True)
class GenerationDefaults:
    """What a checkpoint's own generation settings change of greedy text, as far as the runtime has options for it."""

    repetition_penalty: float = 1.0
    """Divides (a positive) or multiplies (a negative) logit of every token of prompt and text; 1 for none."""
    suppressed_token_ids: tuple[int, ...] = ()
    """Tokens that are never chosen, ascending."""

    def to_json(self) -> dict[str, Any]:
        """These defaults as the manifest writes them."""
        return {
            "repetition_penalty": self.repetition_penalty,
            "suppressed_token_ids": list(self.suppressed_token_ids),
        }

    @staticmethod
    def from_json(data: Any, vocab_size: int) -> GenerationDefaults:
        """Defaults from the manifest's form.

        Args:
            data: What the manifest says.
            vocab_size: Token ids are below it.

        Raises:
            BundleError: A value is of another type or out of range.
        """
        read = data if isinstance(data, dict) else {}
        penalty, ids = read.get("repetition_penalty", 1.0), read.get("suppressed_token_ids", [])
        low, high = _PENALTIES
        fits = (
            isinstance(data, dict)
            and isinstance(penalty, int | float)
            and low <= penalty <= high
            and isinstance(ids, list)
            and all(isinstance(token, int) and 0 <= token < vocab_size for token in ids)
            and len(set(ids)) == len(ids)
        )
        if not fits:
            raise BundleError(
                f"manifest.json has generation defaults out of range: repetition_penalty must be from {low:g} to "
                f"{high:g}, and suppressed_token_ids different tokens below {vocab_size}.",
                "Export the bundle again.",
            )
        return GenerationDefaults(float(penalty), tuple(ids))
