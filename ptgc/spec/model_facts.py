"""What the loops must know of a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ModelFacts:
    """What the loops must know of the model."""

    family: str
    """The model type of the configuration (`llama`, `gpt2`, ...)."""
    vocab_size: int
    """Entries of the logits."""
    context_length: int
    """Positions that the model was made for."""
    eos_token_ids: tuple[int, ...] = ()
    """Any of them ends a text."""
    bos_token_id: int | None = None
    """Starts a text, where the tokenizer adds it."""
    decoder_start_token_id: int | None = None
    """Starts every text of an encoder-decoder."""
    source_vocab_size: int | None = None
    """Entries of an encoder's vocabulary, where it has one of its own."""

    def to_json(self) -> dict[str, Any]:
        """These facts as the manifest writes them."""
        return {
            "family": self.family,
            "vocab_size": self.vocab_size,
            "context_length": self.context_length,
            "eos_token_ids": list(self.eos_token_ids),
            "bos_token_id": self.bos_token_id,
            "decoder_start_token_id": self.decoder_start_token_id,
            "source_vocab_size": self.source_vocab_size,
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> ModelFacts:
        """Facts from the manifest's form."""
        return ModelFacts(
            family=data["family"],
            vocab_size=data["vocab_size"],
            context_length=data["context_length"],
            eos_token_ids=tuple(data["eos_token_ids"]),
            bos_token_id=data["bos_token_id"],
            decoder_start_token_id=data.get("decoder_start_token_id"),
            source_vocab_size=data.get("source_vocab_size"),
        )
