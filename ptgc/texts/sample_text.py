"""SampleText: ordinary text, as tokens, to quantise with and to judge builds on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ptgc.errors import UsageError
from ptgc.runtime.text import TextCodec
from ptgc.runtime.tokenizer_files import BundledFiles
from ptgc.spec.bundle import Bundle
from ptgc.spec.json_file import UnreadableError, decode_text, read_regular
from ptgc.texts.prompt_set import read_prompts

MOST_TOKENS = 8192
"""Most tokens that are taken from a file."""
_SEQUENCE = 512  # tokens that are read as one sequence, if the model's context allows
_LEAST = 1024  # fewest tokens that say anything about a model


@dataclass(frozen=True)
class SampleText:
    """Sequences of tokens from a file."""

    sequences: tuple[tuple[int, ...], ...]
    """Each has at least two tokens, and at most 512 or as many as the model or build holds."""
    sha256: str
    """Digest of the file."""

    @property
    def num_tokens(self) -> int:
        """Tokens of all sequences."""
        return sum(map(len, self.sequences))


def read_sample_text(path: Path, bundle: Bundle, role: str = "target", longest: int | None = None) -> SampleText:
    """Sequences spread over a whole file, at most 8192 tokens.

    Args:
        path: UTF-8 text, or a file of prompts if named `.jsonl`. Conversations are written with the model's chat
            template, so that the text is like what the model sees in use. Longer texts become several sequences.
        bundle: The bundle whose model reads the text.
        role: Which of its models reads; a drafter may have another tokenizer and a shorter context.
        longest: Most tokens that a build holds; None for as many as the model does.

    Raises:
        UsageError: There is no such file, it is not text or has fewer than 1024 tokens, or there is no tokenizer.
    """
    manifest = bundle.manifest
    folder = (manifest.drafter_tokenizer if role == "drafter" else None) or manifest.tokenizer
    context = manifest.roles[role].context_length or manifest.model.context_length
    length = min(_SEQUENCE, context, longest or context)
    content = _read(path)
    if path.suffix == ".jsonl":
        texts: list[Sequence[int]] = [prompt.ids for prompt in read_prompts(path, bundle, None, folder).prompts]
    else:
        texts = [_tokens(path, content, bundle, folder)]
    parts = [tuple(ids[start : start + length]) for ids in texts for start in range(0, len(ids), length)]
    parts = list(_spread([part for part in parts if len(part) > 1]))
    found = sum(map(len, parts))
    if found < _LEAST:
        raise UsageError(
            f"{path} has {found} tokens; a model is judged and quantised on at least {_LEAST}.",
            "Give some pages of text of the kind that the model is to write.",
        )
    return SampleText(tuple(parts), hashlib.sha256(content).hexdigest())


def _tokens(path: Path, content: bytes, bundle: Bundle, folder: str | None) -> list[int]:
    if folder is None:
        raise UsageError(
            f"{bundle.path} has no tokenizer, so that it cannot read the text in {path}.",
            'Give token ids: a file that ends in .jsonl, with lines {"id", "token_ids"}.',
        )
    return TextCodec(BundledFiles(bundle, folder)).encode(content.decode("utf-8"))


def _spread(parts: Sequence[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
    """Parts spread over the whole text, as many as there is room for."""
    total = sum(map(len, parts))
    passed = taken = 0
    for part in parts:
        passed += len(part)
        if (taken + len(part)) * total <= passed * min(total, MOST_TOKENS):
            taken += len(part)
            yield part


def _read(path: Path) -> bytes:
    try:
        content = read_regular(path, most=None)
        decode_text(content)
    except UnreadableError as error:
        raise UsageError(f"{path} {error}.", "Name a file of UTF-8 text.") from error
    return content
