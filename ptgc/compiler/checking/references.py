"""The texts that PyTorch wrote at export, as a bundle keeps them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from ptgc.errors import BundleError
from ptgc.spec.bundle import Bundle


@dataclass(frozen=True)
class Reference:
    """One text that PyTorch wrote."""

    prompt_ids: list[int]
    """The prompt; the canvas at first; what an encoder-decoder's text starts with."""
    token_ids: list[int]
    """What it wrote, greedily."""
    top_ids: list[list[int]]
    """The tokens of the largest logits, for each new token; empty for loops that do not write token by token."""
    top_logits: list[list[float]]
    """Those logits, descending."""
    source_ids: list[int] = field(default_factory=list)
    """What an encoder reads, where there is one."""
    canvas_length: int = 0
    """Tokens of the canvas that it took, where a canvas grows."""

    @property
    def given(self) -> list[int]:
        """What a user gives."""
        return self.source_ids or self.prompt_ids

    @property
    def context(self) -> list[int]:
        """What a model reads to predict every new token."""
        return self.prompt_ids + self.token_ids[:-1]


@dataclass(frozen=True)
class References:
    """All texts of one model."""

    dtype: str
    """In which PyTorch computed."""
    texts: list[Reference]
    """The texts."""

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> References:
        """From the file's form."""
        texts = [
            Reference(
                text["prompt_ids"],
                text["token_ids"],
                text.get("top_ids", []),
                text.get("top_logits", []),
                text.get("source_ids", []),
                text.get("largest", 0),
            )
            for text in document["prompts"]
        ]
        return References(document["dtype"], texts)


def read_references(bundle: Bundle) -> References:
    """The texts of the bundle as a whole.

    Raises:
        BundleError: They were left out when the bundle was packed, or it never had any.
    """
    if bundle.manifest.reference is None:
        if bundle.manifest.packed is None:
            raise BundleError(f"{bundle.path} has no reference texts to check with.", "Export the bundle again.")
        raise BundleError(
            f"Checking needs the reference texts, which `ptgc pack` left out of {bundle.path}.",
            "Check the bundle that it was packed from, or pack that again with --keep-references.",
        )
    return References.from_json(_read(bundle, bundle.manifest.reference))


def read_role_references(bundle: Bundle, role: str) -> References | None:
    """The texts of one role on its own, where the bundle has them: `reference/ROLE.json`."""
    main = bundle.manifest.reference
    own = str(PurePosixPath(main).with_name(f"{role}.json")) if main else None
    if own is None or all(entry.path != own for entry in bundle.manifest.files):
        return None
    document = _read(bundle, own)
    has_logits = all("top_ids" in text for text in document["prompts"])
    return References.from_json(document) if has_logits else None


def _read(bundle: Bundle, path: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((bundle.path / path).read_text(encoding="utf-8"))
    return document
