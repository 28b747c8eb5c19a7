"""Reading a file of prompts, and tokenizing it once for all engines."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptgc.errors import UsageError
from ptgc.runtime.text import TextCodec
from ptgc.spec.bundle import Bundle

CODE_EDIT = Path(__file__).with_name("prompts") / "code-edit.jsonl"


@dataclass(frozen=True)
class Prompt:
    """One prompt, as engines take it."""

    name: str
    """Its `id` in the file."""
    ids: tuple[int, ...]
    """Its tokens."""


@dataclass(frozen=True)
class PromptSet:
    """Some prompts of a file."""

    file: str
    """Name of the file, without its folder."""
    sha256: str
    """Digest of the whole file."""
    prompts: tuple[Prompt, ...]
    """The first of them, or all."""

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt."""
        return max(len(prompt.ids) for prompt in self.prompts)

    def to_json(self) -> dict[str, Any]:
        """For reports."""
        return {
            "file": self.file,
            "sha256": self.sha256,
            "prompt_tokens": {prompt.name: len(prompt.ids) for prompt in self.prompts},
        }


def read_prompts(path: Path, bundle: Bundle, limit: int | None) -> PromptSet:
    """The first prompts of a file, tokenized with the bundle's tokenizer.

    Raises:
        UsageError: No such file, a line that is no prompt, or a bundle without a tokenizer.
    """
    entries = read_entries(path)
    if bundle.manifest.tokenizer is None:
        raise UsageError("This bundle has no tokenizer; prompts are texts.")
    codec = TextCodec(bundle.path / bundle.manifest.tokenizer)
    chosen = entries if limit is None else entries[:limit]
    return PromptSet(
        file=path.name,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        prompts=tuple(Prompt(entry["id"], tuple(_encode(codec, entry))) for entry in chosen),
    )


def read_entries(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of prompts.

    Raises:
        UsageError: No such file, or lines that are no prompts; all of them are named.
    """
    form = 'A line is {"id": NAME, "prompt": TEXT} or {"id": NAME, "messages": [...]}.'
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"Cannot read the prompts in {path}: {error}.", "Name a file with --prompts.") from error
    entries = [_entry(line) for line in lines if line.strip()]
    bad = [number for number, entry in enumerate(entries, 1) if entry is None]
    if bad or not entries:
        what = f"line {', '.join(map(str, bad))} is no prompt" if bad else "it is empty"
        raise UsageError(f"Cannot use the prompts in {path}: {what}.", form)
    good = [entry for entry in entries if entry is not None]
    if len({entry["id"] for entry in good}) != len(good):
        raise UsageError(f"Cannot use the prompts in {path}: two have the same id.", form)
    return good


def _entry(line: str) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    if not isinstance(entry, dict) or not isinstance(entry.get("id"), str):
        return None
    is_text = isinstance(entry.get("prompt"), str)
    return entry if is_text != isinstance(entry.get("messages"), list) else None


def _encode(codec: TextCodec, entry: dict[str, Any]) -> list[int]:
    return codec.encode(entry["prompt"]) if "prompt" in entry else codec.encode_messages(entry["messages"])
