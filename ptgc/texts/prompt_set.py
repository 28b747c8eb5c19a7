"""Reads files of prompts, and tokenizes them once for all engines."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptgc.errors import UsageError
from ptgc.runtime.chat_template import check_messages, content_text
from ptgc.runtime.text import TextCodec
from ptgc.runtime.tokenizer_files import tokenizer_files
from ptgc.spec.bundle import Bundle
from ptgc.spec.json_file import UnreadableError, decode_text, parse_json, read_regular
from ptgc.spec.reference import read_reference_file

FOLDER = Path(__file__).with_name("prompts")
DEFAULT_SETS = ("chat", "code", "copy-heavy")
_FORM = 'A line is {"id": NAME, "prompt": TEXT}, {"id": NAME, "messages": [...]} or {"id": NAME, "token_ids": [...]}.'
_KINDS = ("prompt", "messages", "token_ids")


@dataclass(frozen=True)
class Prompt:
    """One prompt, in the form that engines take."""

    kind: str
    """The set that it belongs to."""
    name: str
    """Its set and its `id` in the file: `chat/budget`."""
    ids: tuple[int, ...]
    """Its tokens."""


@dataclass(frozen=True)
class PromptSet:
    """Some prompts of a file."""

    kind: str
    """Name of the file, without folder and suffix."""
    sha256: str
    """Digest of the whole file."""
    prompts: tuple[Prompt, ...]
    """The first prompts of the file, or all."""

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return max(len(prompt.ids) for prompt in self.prompts)

    def to_json(self) -> dict[str, Any]:
        """This as reports have it."""
        return {
            "kind": self.kind,
            "sha256": self.sha256,
            "prompt_tokens": {prompt.name: len(prompt.ids) for prompt in self.prompts},
        }


def set_names() -> list[str]:
    """Names of the sets that come with ptgc."""
    return sorted(path.stem for path in FOLDER.glob("*.jsonl"))


def prompt_file(name: str) -> Path:
    """The file of a set that comes with ptgc, or the file of that name.

    Raises:
        UsageError: There is neither.
    """
    if name in set_names():
        return FOLDER / f"{name}.jsonl"
    if not os.path.isfile(name):  # noqa: PTH113  # Path.is_file raises where a name is too long
        raise UsageError(
            f"There are no prompts '{name}': no such file, and no set of that name.",
            f"Sets: {', '.join(set_names())}. {_FORM}",
        )
    return Path(name)


def read_sets(names: Sequence[str], bundle: Bundle, limit: int | None) -> list[PromptSet]:
    """The first prompts of several sets or files; without names, of the sets chat, code and copy-heavy.

    A bundle without a tokenizer takes token ids only; without names, the prompts of its reference texts are taken.

    Raises:
        UsageError: There is no such set or file, two have the same name, or the bundle cannot take the prompts.
    """
    if not names and bundle.manifest.tokenizer is None:
        return [_reference_prompts(bundle, limit)]
    found = [read_prompts(prompt_file(name), bundle, limit) for name in names or DEFAULT_SETS]
    if len({one.kind for one in found}) != len(found):
        raise UsageError(f"--prompts names two sets alike: {', '.join(one.kind for one in found)}.")
    return found


def read_prompts(path: Path, bundle: Bundle, limit: int | None, tokenizer: str | None = None) -> PromptSet:
    """The first prompts of a file, tokenized with the bundle's tokenizer or that in another of its folders.

    For a model without a chat template, messages are joined with empty lines.

    Raises:
        UsageError: There is no such file, a line is not a prompt, or a text is given for a bundle without a tokenizer.
    """
    content = _read(path)
    entries = parse_entries(path, content)
    folder = tokenizer or bundle.manifest.tokenizer
    files = tokenizer_files(bundle, folder)
    codec = TextCodec(files) if files else None
    is_chat = codec is not None and bool(codec.chat_templates)
    if tokenizer not in (None, bundle.manifest.tokenizer) and any("token_ids" in entry for entry in entries):
        raise UsageError(
            f"{path} has token ids, and the bundle's models have different ones.", "Give prompts as texts or messages."
        )
    prompts = [
        Prompt(path.stem, f"{path.stem}/{entry['id']}", tuple(_encode(codec, entry, is_chat=is_chat)))
        for entry in (entries if limit is None else entries[:limit])
    ]
    size = bundle.manifest.model.vocab_size
    wrong = [prompt.name for prompt in prompts if not all(0 <= token < size for token in prompt.ids)]
    if wrong and folder == bundle.manifest.tokenizer:
        raise UsageError(f"These prompts have token ids that are not below {size}: {', '.join(wrong)}.")
    empty = [prompt.name for prompt in prompts if not prompt.ids]
    if empty:
        raise UsageError(f"These prompts have no tokens: {', '.join(empty)}.")
    return PromptSet(path.stem, hashlib.sha256(content).hexdigest(), tuple(prompts))


def read_entries(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of prompts.

    Raises:
        UsageError: There is no such file, or lines are not prompts; all of them are named.
    """
    return parse_entries(path, _read(path))


def _read(path: Path) -> bytes:
    try:
        return read_regular(path)
    except UnreadableError as error:
        raise UsageError(f"Cannot read the prompts: {path} {error}.", "Name a file with --prompts.") from error


def parse_entries(path: Path, content: bytes) -> list[dict[str, Any]]:
    """The prompts in the content of a file.

    Raises:
        UsageError: It is not text, or lines are not prompts; all of them are named.
    """
    try:
        lines = decode_text(content).split("\n")  # other line separators may occur in a string
    except UnreadableError as error:
        raise UsageError(f"Cannot read the prompts: {path} {error}.", "Name a file with --prompts.") from error
    entries = [_entry(line) for line in lines if line.strip()]
    bad = [number for number, entry in enumerate(entries, 1) if entry is None]
    if bad or not entries:
        what = f"line {', '.join(map(str, bad))} is no prompt" if bad else "it is empty"
        raise UsageError(f"Cannot use the prompts in {path}: {what}.", _FORM)
    good = [entry for entry in entries if entry is not None]
    if len({entry["id"] for entry in good}) != len(good):
        raise UsageError(f"Cannot use the prompts in {path}: two have the same id.", _FORM)
    return good


def _entry(line: str) -> dict[str, Any] | None:
    try:
        entry = parse_json(line)
    except UnreadableError:
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
        return None
    given = [name for name in _KINDS if name in entry]
    types = {"prompt": str, "messages": list, "token_ids": list}
    return entry if len(given) == 1 and isinstance(entry[given[0]], types[given[0]]) else None


def _encode(codec: TextCodec | None, entry: dict[str, Any], *, is_chat: bool) -> list[int]:
    if "token_ids" in entry:
        ids = entry["token_ids"]
        if not all(type(token) is int for token in ids):
            raise UsageError(f"Prompt '{entry['id']}' has token ids that are no integers.", _FORM)
        return list(ids)
    if codec is None:
        raise UsageError(
            f"This bundle has no tokenizer; prompt '{entry['id']}' is a text.", 'Give prompts as {"id", "token_ids"}.'
        )
    if "prompt" in entry:
        return codec.encode(entry["prompt"])
    check_messages(entry["messages"])
    if is_chat:
        return codec.encode_messages(entry["messages"])
    return codec.encode("\n\n".join(map(content_text, entry["messages"])) + "\n\n")


def _reference_prompts(bundle: Bundle, limit: int | None) -> PromptSet:
    name = bundle.manifest.reference
    if name is None:
        raise UsageError("This bundle has no tokenizer and no reference texts.", "Give prompts of token ids: --prompts")
    texts = read_reference_file(bundle, name).texts[:limit]
    prompts = [Prompt("reference", f"reference/{at}", tuple(text.prompt_ids)) for at, text in enumerate(texts)]
    digest = next(entry.sha256 for entry in bundle.manifest.files if entry.path == name)
    return PromptSet("reference", digest, tuple(prompts))
