"""The texts that PyTorch wrote at export, as a bundle stores them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from ptgc.errors import BundleError
from ptgc.spec.bundle import Bundle
from ptgc.spec.fields import Count, Range, TokenId, read, refuse
from ptgc.spec.json_file import UnreadableError, parse_json
from ptgc.spec.limits import MAX_LENGTH
from ptgc.spec.loop import Loop
from ptgc.spec.model_facts import foreign_tokens

TOP_K = 8
"""Number of largest logits that an export keeps for each new token."""
_MAX_TEXTS = 1024
_MAX_BEST = 64  # most largest logits for each new token

_Tokens = Annotated[list[TokenId], Count(0, MAX_LENGTH)]
_Best = Annotated[list[TokenId], Count(2, _MAX_BEST)]
_Logits = Annotated[list[float], Count(2, _MAX_BEST)]


@dataclass(frozen=True)
class Reference:
    """One text that PyTorch wrote."""

    prompt_ids: _Tokens
    """The prompt, the first canvas, or the start of an encoder-decoder's text; empty if the source is everything."""
    token_ids: _Tokens
    """The tokens that it wrote, greedily."""
    top_ids: Annotated[list[_Best], Count(0, MAX_LENGTH)] = field(default_factory=list)
    """The tokens with the largest logits, for each new token; empty for loops that do not write token by token."""
    top_logits: Annotated[list[_Logits], Count(0, MAX_LENGTH)] = field(default_factory=list)
    """Those logits, descending."""
    source_ids: _Tokens = field(default_factory=list)
    """The encoder's input, if there is an encoder."""
    canvas_length: Annotated[int, Range(0, MAX_LENGTH)] = 0
    """Length of the largest canvas that was needed, for loops whose canvas grows."""

    @property
    def given(self) -> list[int]:
        """The input that a user would give."""
        return self.source_ids or self.prompt_ids

    @property
    def context(self) -> list[int]:
        """The tokens that a model reads to predict all new tokens."""
        return self.prompt_ids + self.token_ids[:-1]

    @staticmethod
    def json_fields(data: Any) -> Any:
        """The fields from the file's form."""
        return data | {"canvas_length": data.get("largest", 0)} if isinstance(data, dict) else data

    def problems(self) -> list[str]:
        """Tokens and logits that do not match each other."""
        rows = [len(row) for row in self.top_ids]
        found = []
        if rows != [len(row) for row in self.top_logits] or (rows and len(rows) != len(self.token_ids)):
            found.append("top_ids and top_logits must have a row of the same length for every token of token_ids")
        if not self.given:
            found.append("prompt_ids is empty")
        return found


@dataclass(frozen=True)
class References:
    """All texts of one model."""

    dtype: str
    """The type in which PyTorch computed."""
    texts: Annotated[list[Reference], Count(1, _MAX_TEXTS)]
    """The texts."""

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> References:
        """Read from the file's form.

        Raises:
            UnreadableError: The error names every problem found.
        """
        return read(References, document)

    @staticmethod
    def json_fields(data: Any) -> Any:
        """The fields from the file's form."""
        return {**data, "texts": data.get("prompts")} if isinstance(data, Mapping) else data

    @property
    def has_logits(self) -> bool:
        """Whether every text has the largest logits of its tokens."""
        return all(len(text.top_ids) == len(text.token_ids) for text in self.texts)


def read_reference_file(bundle: Bundle, path: str) -> References:
    """The texts in a file of a bundle.

    Raises:
        BundleError: It is not listed, was changed, or does not hold such texts of this bundle's models.
    """
    content = bundle.read_file(path)
    try:
        references = References.from_json(parse_json(content))
        if path == bundle.manifest.reference:
            refuse(_problems(bundle, references))
    except UnreadableError as error:
        raise BundleError(f"{bundle.path / path} {error}.", "Export the bundle again.") from error
    return references


def _problems(bundle: Bundle, references: References) -> list[str]:
    """Reasons why the bundle's main texts cannot be compared with its loop."""
    model, plan = bundle.manifest.model, bundle.manifest.plan
    reads = "encoder" in bundle.manifest.roles
    found = []
    for number, text in enumerate(references.texts):
        place = f"prompts[{number}]"
        tokens = [f"{place}.{name}" for name in ("prompt_ids", "token_ids", "source_ids")]
        sizes = (model.vocab_size, model.vocab_size, model.source_vocab_size or model.vocab_size)
        largest = [max(ids, default=0) for ids in (text.prompt_ids, text.token_ids, text.source_ids)]
        for name, token, size in zip(tokens, largest, sizes, strict=True):
            found += foreign_tokens([(name, token)], size)
        found += foreign_tokens([(f"{place}.top_ids", max(row)) for row in text.top_ids], model.vocab_size)
        if reads != bool(text.source_ids):
            found.append(f"{place}.source_ids must {'not ' if reads else ''}be empty")
        if not text.prompt_ids and plan.loop in (Loop.SPECULATIVE, Loop.CANVAS):
            found.append(f"{place}.prompt_ids is empty")
        if plan.canvas is not None and plan.canvas.mask_token_id not in text.prompt_ids:
            found.append(f"{place}.prompt_ids has no mask token, so that there is nothing to fill")
        if plan.loop is Loop.SPECULATIVE and not (text.token_ids and len(text.top_ids) == len(text.token_ids)):
            found.append(f"{place} needs token_ids, and top_ids of each of them")
    return found
