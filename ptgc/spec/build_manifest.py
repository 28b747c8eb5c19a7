"""The manifest of a build."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ptgc.spec.engine import Engine
from ptgc.spec.lowering import Lowering
from ptgc.spec.manifest import MIN_RUNTIME, SCHEMA_VERSION, FileEntry
from ptgc.spec.role import Role
from ptgc.spec.shapes import ShapePlan


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
    min_onnxruntime: str | None = None
    """The oldest ONNX Runtime that runs it; None where another library does."""
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
            "min_onnxruntime": self.min_onnxruntime,
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
            files=tuple(FileEntry.from_json(entry) for entry in data["files"]),
            bundle_sha256=data["bundle_sha256"],
            sequence=data["sequence"],
            weight_bytes=data["weight_bytes"],
            lowering=Lowering(data.get("lowering", Lowering.NATIVE)),
            engine_options=data["engine_options"],
            engines=tuple(Engine.from_json(engine) for engine in data.get("engines", ())),
            compute_capabilities=tuple(data.get("compute_capabilities", ())),
            min_onnxruntime=data.get("min_onnxruntime"),
            provenance=data["provenance"],
        )
