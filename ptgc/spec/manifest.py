"""The manifest of a bundle, and which documents are refused."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, cast

from ptgc.errors import BundleError
from ptgc.spec.drafter import DrafterPlan, drafter_feature
from ptgc.spec.fields import Count, FilePath, Range, Sha256, read
from ptgc.spec.fitting import plan_problems
from ptgc.spec.generation import GenerationDefaults
from ptgc.spec.limits import MAX_COUNT, MAX_ENTRIES, MAX_SIZES
from ptgc.spec.model_facts import ModelFacts, foreign_tokens
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
        "encoder",
        "block-cache",
    }
)
"""Features that this version supports, in addition to those of drafters; bundles that need others are refused."""


@dataclass(frozen=True)
class FileEntry:
    """One file of a bundle or build, relative to its manifest."""

    path: FilePath
    """Forward slashes, no `..`, not absolute."""
    size: Annotated[int, Range(0, MAX_COUNT)]
    """Bytes."""
    sha256: Sha256
    """Lower-case hexadecimal digest."""

    def to_json(self) -> dict[str, Any]:
        """This entry as the manifest writes it."""
        return {"path": self.path, "size": self.size, "sha256": self.sha256}


Files = Annotated[tuple[FileEntry, ...], Count(0, MAX_ENTRIES)]


@dataclass(frozen=True)
class Manifest:
    """manifest.json: everything that later stages need to know about a bundle."""

    plan: DecodePlan
    """The loop and its policies."""
    model: ModelFacts
    """What the loops must know about the model."""
    roles: dict[str, Role]
    """The models by role name (`target`, ...)."""
    files: Files
    """Every file except the manifest itself and the builds."""
    tokenizer: FilePath | None = None
    """The folder of the tokenizer; None if the bundle only takes and gives token ids."""
    drafter_tokenizer: FilePath | None = None
    """The folder of the drafter's own tokenizer if drafts are encoded again; else None."""
    reference: FilePath | None = None
    """The file of reference texts."""
    features: Annotated[tuple[str, ...], Count(0, MAX_SIZES)] = ()
    """Features that a reader must support."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Where the bundle came from."""
    generation: GenerationDefaults = field(default_factory=GenerationDefaults)
    """How tokens are chosen if a request does not say."""
    packed: Packed | None = None
    """What was left out if the bundle was packed; else None."""

    def to_json(self) -> dict[str, Any]:
        """The whole document."""
        document = {
            "schema_version": SCHEMA_VERSION,
            "min_runtime": MIN_RUNTIME,
            "features": sorted(self.features),
            "strategy": self.plan.strategy,
            "guarantee": self.plan.guarantee.value,
            "lossless": self.plan.lossless,
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
        """A manifest from a document whose schema and features have been checked.

        Raises:
            UnreadableError: The error names every problem found.
        """
        return read(Manifest, data)

    @staticmethod
    def json_fields(data: Any) -> Any:
        """The fields from the document, which has strategy and guarantee beside the plan instead of in it."""
        plan = data.get("plan") if isinstance(data, dict) else None
        if not isinstance(plan, dict):
            return data
        return data | {"plan": plan | {name: data.get(name) for name in ("strategy", "guarantee")}}

    def problems(self) -> list[str]:
        """Contradictions within the manifest."""
        listed = {entry.path for entry in self.files}
        needed = {
            f"{name}/tokenizer.json": field
            for field, name in (("tokenizer", self.tokenizer), ("drafter_tokenizer", self.drafter_tokenizer))
            if name is not None
        }
        if self.reference is not None:
            needed[self.reference] = "reference"
        if self.packed is None:
            needed |= {role.graph: f"roles.{name}.graph" for name, role in self.roles.items()}
        return [
            *plan_problems(self.plan, self.model, self.roles),
            *foreign_tokens(
                [("generation.suppressed_token_ids", token) for token in self.generation.suppressed_token_ids],
                self.model.vocab_size,
            ),
            *twice(self.files),
            *(
                f"{field} needs '{path}', which files does not list"
                for path, field in needed.items()
                if path not in listed
            ),
        ]


def twice(files: Sequence[FileEntry]) -> list[str]:
    """The problems of files that are listed several times."""
    counts = Counter(entry.path for entry in files)
    return [f"files lists '{path}' {count} times" for path, count in counts.items() if count > 1]


def dumps(document: dict[str, Any]) -> str:
    """JSON in the form that bundles store; the same document gives the same bytes."""
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def check_readable(document: Any, name: str) -> dict[str, Any]:
    """The document, after checking that its schema and features can be read.

    Raises:
        BundleError: It is not an object, has no schema version, or needs a newer ptgc.
    """
    version = document.get("schema_version") if isinstance(document, dict) else None
    if type(version) is not int or version < 1:
        raise BundleError(f"{name} is not a ptgc manifest: it has no schema_version.", "Export the bundle again.")
    wanted = document.get("min_runtime")
    newer = f"Install ptgc {wanted[:48] if isinstance(wanted, str) else 'of a newer version'} or newer."
    if version > SCHEMA_VERSION:
        raise BundleError(f"{name} has schema version {version}; this ptgc reads up to {SCHEMA_VERSION}.", newer)
    needed = {one[:48] for one in _features_of(document) if isinstance(one, str)}
    unknown = sorted(needed - FEATURES - {drafter_feature(kind) for kind in DrafterPlan.json_kinds()})
    if unknown:
        raise BundleError(f"{name} needs features that this ptgc does not have: {', '.join(unknown[:12])}.", newer)
    return cast("dict[str, Any]", document)


def _features_of(document: dict[str, Any]) -> list[Any]:
    """The features that a document lists, and those of the drafters in its plan."""
    features, plan = document.get("features", []), document.get("plan")
    drafter = plan.get("drafter") if isinstance(plan, dict) else None
    merged = drafter.get("drafters") if isinstance(drafter, dict) else None
    drafters = [drafter, *(merged if isinstance(merged, list) else ())]
    kinds = [one.get("kind") for one in drafters if isinstance(one, dict)]
    named = [drafter_feature(kind) for kind in kinds if isinstance(kind, str)]
    return [*features, *named] if isinstance(features, list) else named
