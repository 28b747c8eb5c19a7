"""Facts about a model that the loops need."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from ptgc.spec.fields import Count, Range, Sha256, TokenId
from ptgc.spec.limits import MAX_CONTEXT_LENGTH, MAX_EOS_TOKENS, MAX_VOCAB_SIZE

_VocabSize = Annotated[int, Range(1, MAX_VOCAB_SIZE)]


@dataclass(frozen=True)
class ModelFacts:
    """Facts about the model that the loops need."""

    family: str
    """The model type of the configuration (`llama`, `gpt2`, ...)."""
    vocab_size: _VocabSize
    """Entries of the logits."""
    context_length: Annotated[int, Range(1, MAX_CONTEXT_LENGTH)]
    """Positions that the model was made for."""
    eos_token_ids: Annotated[tuple[TokenId, ...], Count(0, MAX_EOS_TOKENS)] = ()
    """Any of them ends a text."""
    bos_token_id: TokenId | None = None
    """Starts a text, if the tokenizer adds it."""
    decoder_start_token_id: TokenId | None = None
    """Starts every text of an encoder-decoder."""
    source_vocab_size: _VocabSize | None = None
    """Entries of an encoder's vocabulary, if it has its own."""
    vocabulary_sha256: Sha256 | None = None
    """Digest of the tokenizer's vocabulary (`ptgc.spec.vocabulary`), which a datastore must have too."""

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
            "vocabulary_sha256": self.vocabulary_sha256,
        }

    def problems(self) -> list[str]:
        """Tokens that are not in the vocabulary."""
        named = [(f"eos_token_ids[{i}]", token) for i, token in enumerate(self.eos_token_ids)]
        named += [
            (name, token)
            for name, token in (
                ("bos_token_id", self.bos_token_id),
                ("decoder_start_token_id", self.decoder_start_token_id),
            )
            if token is not None
        ]
        return foreign_tokens(named, self.vocab_size)


def foreign_tokens(named: Iterable[tuple[str, int]], vocab_size: int) -> list[str]:
    """The problems of tokens that are not in a vocabulary."""
    return [
        f"{name} is {token}; it must be below vocab_size, {vocab_size}" for name, token in named if token >= vocab_size
    ]
