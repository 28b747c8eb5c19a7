"""The manifest of a bundle and of a build: what is written, read and refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from ptgc.errors import BundleError
from ptgc.spec.engine import Engine
from ptgc.spec.kv_cache import LayerState
from ptgc.spec.lowering import Lowering
from ptgc.spec.packed import Packed
from ptgc.spec.plan import DecodePlan
from ptgc.spec.ports import Port
from ptgc.spec.shapes import ShapePlan

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


@dataclass(frozen=True)
class Role:
    """One model of a bundle and the graph that computes it."""

    graph: str
    """The ONNX file, relative to the manifest."""
    inputs: tuple[Port, ...]
    """Ports that come in, states apart."""
    outputs: tuple[Port, ...]
    """Ports that go out, states apart."""
    states: tuple[LayerState, ...] = ()
    """The KV cache, layer by layer."""
    cross_states: tuple[LayerState, ...] = ()
    """What each layer attends to of an encoder's output, layer by layer; written once for each text."""
    context_length: int | None = None
    """Positions that this model was made for, where they differ from the bundle's."""
    commit_graph: str | None = None
    """The ONNX file that moves accepted rows together (port `keep_rows`); only token trees need it."""
    device: str = "default"
    """Where it runs; one device per role in this schema."""

    def to_json(self) -> dict[str, Any]:
        """This role as the manifest writes it."""
        data: dict[str, Any] = {"graph": self.graph}
        if self.commit_graph is not None:
            data["commit_graph"] = self.commit_graph
        return data | {
            "device": self.device,
            "ports": {
                "inputs": [port.to_json() for port in self.inputs],
                "outputs": [port.to_json() for port in self.outputs],
            },
            "states": [state.to_json() for state in self.states],
            "cross_states": [state.to_json() for state in self.cross_states],
            "context_length": self.context_length,
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Role:
        """A role from the manifest's form."""
        return Role(
            graph=data["graph"],
            commit_graph=data.get("commit_graph"),
            device=data.get("device", "default"),
            inputs=tuple(Port.from_json(port) for port in data["ports"]["inputs"]),
            outputs=tuple(Port.from_json(port) for port in data["ports"]["outputs"]),
            states=tuple(LayerState.from_json(state) for state in data["states"]),
            cross_states=tuple(LayerState.from_json(state) for state in data.get("cross_states", ())),
            context_length=data.get("context_length"),
        )


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
        return Manifest(
            plan=DecodePlan.from_json(data["strategy"], data["plan"]),
            model=ModelFacts.from_json(data["model"]),
            roles={name: Role.from_json(role) for name, role in data["roles"].items()},
            files=tuple(FileEntry(**entry) for entry in _only(data["files"], ("path", "size", "sha256"))),
            tokenizer=data["tokenizer"],
            drafter_tokenizer=data.get("drafter_tokenizer"),
            reference=data["reference"],
            features=tuple(data["features"]),
            provenance=data["provenance"],
            packed=Packed.from_json(data["packed"]) if "packed" in data else None,
        )


@dataclass(frozen=True)
class BuildManifest:
    """build.json: one build of a bundle."""

    id: str
    """Its folder under `builds/`."""
    backend: str
    """Which engine library runs it."""
    device: str
    """What kind of device it runs on."""
    precision: dict[str, str]
    """Weight precision of each role."""
    shapes: ShapePlan
    """The shapes that may occur."""
    roles: dict[str, Role]
    """The prepared graph and ports of each role."""
    files: tuple[FileEntry, ...]
    """Every file of the build but build.json."""
    bundle_sha256: str
    """Digest of the manifest that it was built from."""
    sequence: int = 0
    """Builds made before it in this bundle; the newest build has the largest."""
    weight_bytes: int = 0
    """Bytes of weights in the prepared graphs."""
    lowering: Lowering = Lowering.NATIVE
    """Which operators the prepared graphs have."""
    engine_options: dict[str, dict[str, str]] = field(default_factory=dict)
    """Settings, by role, that its engine is loaded with."""
    engines: tuple[Engine, ...] = ()
    """Engines that were compiled ahead of time; none where the library compiles while it loads."""
    compute_capabilities: tuple[str, ...] = ()
    """GPU generations that the engines were compiled for; none where that does not apply."""
    provenance: dict[str, Any] = field(default_factory=dict)
    """Versions and options of the build."""

    def to_json(self) -> dict[str, Any]:
        """The whole document."""
        return {
            "schema_version": SCHEMA_VERSION,
            "min_runtime": MIN_RUNTIME,
            "features": [],
            "id": self.id,
            "sequence": self.sequence,
            "backend": self.backend,
            "device": self.device,
            "precision": self.precision,
            "lowering": self.lowering.value,
            "shapes": self.shapes.to_json(),
            "roles": {name: role.to_json() for name, role in self.roles.items()},
            "weight_bytes": self.weight_bytes,
            "engine_options": self.engine_options,
            "engines": [engine.to_json() for engine in self.engines],
            "compute_capabilities": list(self.compute_capabilities),
            "bundle_sha256": self.bundle_sha256,
            "provenance": self.provenance,
            "files": [entry.to_json() for entry in self.files],
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> BuildManifest:
        """A build from the document, whose schema has been checked."""
        return BuildManifest(
            id=data["id"],
            backend=data["backend"],
            device=data["device"],
            precision=data["precision"],
            shapes=ShapePlan.from_json(data["shapes"]),
            roles={name: Role.from_json(role) for name, role in data["roles"].items()},
            files=tuple(FileEntry(**entry) for entry in _only(data["files"], ("path", "size", "sha256"))),
            bundle_sha256=data["bundle_sha256"],
            sequence=data["sequence"],
            weight_bytes=data["weight_bytes"],
            lowering=Lowering(data.get("lowering", Lowering.NATIVE)),
            engine_options=data["engine_options"],
            engines=tuple(Engine.from_json(engine) for engine in data.get("engines", ())),
            compute_capabilities=tuple(data.get("compute_capabilities", ())),
            provenance=data["provenance"],
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


def _only(entries: list[dict[str, Any]], names: tuple[str, ...]) -> list[dict[str, Any]]:
    return [{name: entry[name] for name in names} for entry in entries]
