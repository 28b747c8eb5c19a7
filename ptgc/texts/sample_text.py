"""SampleText: ordinary text, as tokens, to quantise with and to judge builds on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ptgc.errors import UsageError
from ptgc.runtime.text import TextCodec
from ptgc.spec.bundle import Bundle
from ptgc.texts.prompt_set import read_prompts

MOST_TOKENS = 8192
"""Tokens that are taken of a file."""
_SEQUENCE = 512  # tokens that are read in one go, where the model's context allows
_LEAST = 1024  # tokens that say anything about a model


@dataclass(frozen=True)
class SampleText:
    """Sequences of tokens from a file."""

    sequences: tuple[tuple[int, ...], ...]
    """Each of 512 tokens or the model's context at most, and of two at least."""
    sha256: str
    """Digest of the file."""

    def cut(self, length: int) -> tuple[tuple[int, ...], ...]:
        """The sequences as far as a build holds them."""
        return tuple(sequence[:length] for sequence in self.sequences)

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return max(map(len, self.sequences))

    @property
    def num_tokens(self) -> int:
        """Tokens of all sequences."""
        return sum(map(len, self.sequences))


def read_sample_text(path: Path, bundle: Bundle, role: str = "target") -> SampleText:
    """Sequences from all over a file: at most 8192 tokens.

    Args:
        path: UTF-8 text; or, named `.jsonl`, a file of prompts, of which each is a sequence. Conversations are written
            with the model's chat template, so that a model is seen at what it does.
        bundle: Whose model reads it.
        role: Which of its models: a drafter may have another tokenizer and a shorter context.

    Raises:
        UsageError: No such file, no text, less than 1024 tokens, or a bundle without a tokenizer.
    """
    manifest = bundle.manifest
    folder = (manifest.drafter_tokenizer if role == "drafter" else None) or manifest.tokenizer
    length = min(_SEQUENCE, manifest.roles[role].context_length or manifest.model.context_length)
    content = _read(path)
    if path.suffix == ".jsonl":
        parts = [prompt.ids[:length] for prompt in read_prompts(path, bundle, None, folder).prompts]
    else:
        ids = _tokens(path, content, bundle, folder)
        parts = [tuple(ids[start : start + length]) for start in range(0, len(ids), length)]
    parts = [part for part in parts if len(part) > 1]
    found = sum(map(len, parts))
    if found < _LEAST:
        raise UsageError(
            f"{path} has {found} tokens; a model is judged and quantised on at least {_LEAST}.",
            "Give some pages of text of the kind that the model is to write.",
        )
    return SampleText(tuple(_spread(parts)), hashlib.sha256(content).hexdigest())


def _tokens(path: Path, content: bytes, bundle: Bundle, folder: str | None) -> list[int]:
    if folder is None:
        raise UsageError(
            f"{bundle.path} has no tokenizer, so that it cannot read the text in {path}.",
            'Give token ids: a file that ends in .jsonl, with lines {"id", "token_ids"}.',
        )
    return TextCodec(bundle.path / folder).encode(content.decode("utf-8"))


def _spread(parts: Sequence[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
    """Of equally spaced parts as many as there is room for."""
    share = min(1.0, MOST_TOKENS / sum(map(len, parts)))
    taken = 0.0
    for part in parts:
        taken += share
        if taken >= 1 - 1e-9:
            taken -= 1
            yield part


def _read(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        content.decode("utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 text: {error.reason} at byte {error.start}.") from error
    return content
