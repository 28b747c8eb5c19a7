"""The manifest of a bundle: what is written, read and refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from ptgc.errors import BundleError
from ptgc.spec.generation import GenerationDefaults
from ptgc.spec.model_facts import ModelFacts
from ptgc.spec.packed import Packed
from ptgc.spec.plan import DecodePlan
from ptgc.spec.role import Role

SCHEMA_VERSION = 1
MIN_RUNTIME = "0.1.0"
FEATURES = frozenset(
    {
        "speculative-loop",
        "canvas-loop",
        "one-shot-loop",
        "edit-loop",
        "kv-cache-full",
        "sliding-window-cache",
        "drafter-model",
        "encoder",
    }
)
"""Features that this version reads; a bundle that names another is refused by that name."""


@dataclass(frozen=True)
class FileEntry:
    """One file of a bundle or build, relative to its manifest."""

    path: str
    """Forward slashes, no `..`, not absolute."""
    size: int
    """Bytes."""
    sha256: str
    """Lower-case hexadecimal digest."""

    def to_json(self) -> dict[str, Any]:
        """This entry as the manifest writes it."""
        return {"path": self.path, "size": self.size, "sha256": self.sha256}

    @staticmethod
    def from_json(data: dict[str, Any]) -> FileEntry:
        """An entry from the manifest's form."""
        return FileEntry(data["path"], data["size"], data["sha256"])


@dataclass(frozen=True)
class Manifest:
    """manifest.json: everything that a later stage needs to know of a bundle."""

    plan: DecodePlan
    """The loop and its policies."""
    model: ModelFacts
    """What the loops must know of the model."""
    roles: dict[str, Role]
    """The models by role name (`target`, ...)."""
    files: tuple[FileEntry, ...]
    """Every file but the manifest itself and the builds."""
    tokenizer: str | None = None
    """The folder of the tokenizer, or None where only token ids go in and out."""
    drafter_tokenizer: str | None = None
    """The folder of the drafter's own tokenizer, where drafts are encoded again; None otherwise."""
    reference: str | None = None
    """The file of reference texts."""
    features: tuple[str, ...] = ()
    """What a reader must understand."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Where the bundle came from."""
    generation: GenerationDefaults = field(default_factory=GenerationDefaults)
    """How texts are chosen where a request does not say."""
    packed: Packed | None = None
    """What was left out, where the bundle was packed."""

    def to_json(self) -> dict[str, Any]:
        """The whole document."""
        document = {
            "schema_version": SCHEMA_VERSION,
            "min_runtime": MIN_RUNTIME,
            "features": sorted(self.features),
            "strategy": self.plan.strategy.value,
            "lossless": self.plan.strategy.lossless,
            "plan": self.plan.to_json(),
            "model": self.model.to_json(),
            "generation": self.generation.to_json(),
            "roles": {name: role.to_json() for name, role in self.roles.items()},
            "tokenizer": self.tokenizer,
            "drafter_tokenizer": self.drafter_tokenizer,
            "reference": self.reference,
            "provenance": self.provenance,
            "files": [entry.to_json() for entry in self.files],
        }
        return document if self.packed is None else document | {"packed": self.packed.to_json()}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Manifest:
        """A manifest from the document, whose schema and features have been checked."""
        model = ModelFacts.from_json(data["model"])
        return Manifest(
            plan=DecodePlan.from_json(data["strategy"], data["plan"]),
            model=model,
            roles={name: Role.from_json(role) for name, role in data["roles"].items()},
            files=tuple(FileEntry.from_json(entry) for entry in data["files"]),
            tokenizer=data["tokenizer"],
            drafter_tokenizer=data.get("drafter_tokenizer"),
            reference=data["reference"],
            features=tuple(data["features"]),
            provenance=data["provenance"],
            generation=GenerationDefaults.from_json(data.get("generation", {}), model.vocab_size),
            packed=Packed.from_json(data["packed"]) if "packed" in data else None,
        )


def dumps(document: dict[str, Any]) -> str:
    """JSON as bundles keep it: the same document gives the same bytes."""
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def check_readable(document: Any, name: str) -> dict[str, Any]:
    """The document, once its schema and features are known to be readable.

    Raises:
        BundleError: It is no object, has no schema version, or needs a newer ptgc.
    """
    if not isinstance(document, dict) or not isinstance(document.get("schema_version"), int):
        raise BundleError(f"{name} is not a ptgc manifest: it has no schema_version.", "Export the bundle again.")
    version = document["schema_version"]
    if version > SCHEMA_VERSION:
        raise BundleError(
            f"{name} has schema version {version}; this ptgc reads up to {SCHEMA_VERSION}.",
            f"Install ptgc {document.get('min_runtime', 'of a newer version')} or newer.",
        )
    unknown = sorted(set(document.get("features", ())) - FEATURES)
    if unknown:
        raise BundleError(
            f"{name} needs features that this ptgc does not have: {', '.join(unknown)}.",
            f"Install ptgc {document.get('min_runtime', 'of a newer version')} or newer.",
        )
    return document
