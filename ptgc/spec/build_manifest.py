"""The manifest of a build."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from ptgc.spec.engine import Engine
from ptgc.spec.engine_options import refused_options
from ptgc.spec.fields import Count, Name, Range, Sha256, read
from ptgc.spec.limits import MAX_COUNT, MAX_SIZES, MAX_STATES
from ptgc.spec.lowering import Lowering
from ptgc.spec.manifest import MIN_RUNTIME, SCHEMA_VERSION, Files, twice
from ptgc.spec.role import Role
from ptgc.spec.shapes import ShapePlan

_Count = Annotated[int, Range(0, MAX_COUNT)]

AHEAD_OF_TIME = ("tensorrt", "tensorrt-rtx")
"""Backends whose builds have engines; others load graphs."""


@dataclass(frozen=True)
class BuildManifest:
    """build.json: one build of a bundle."""

    id: Name
    """Its folder under `builds/`."""
    backend: Name
    """The engine library that runs it."""
    device: Name
    """The kind of device that it runs on."""
    precision: dict[str, Name]
    """Weight precision of each role."""
    shapes: ShapePlan
    """The shapes that may occur."""
    roles: dict[str, Role]
    """The prepared graph and ports of each role."""
    files: Files
    """Every file of the build except build.json."""
    bundle_sha256: Sha256
    """Digest of the manifest that it was built from."""
    sequence: _Count = 0
    """Order of the builds of a bundle; the newest build has the largest number."""
    weight_bytes: _Count = 0
    """Bytes of weights in the prepared graphs."""
    lowering: Lowering = Lowering.NATIVE
    """Which operators the prepared graphs use."""
    engine_options: dict[str, dict[str, str]] = field(default_factory=dict)
    """Settings that engines are loaded with, by role."""
    engines: Annotated[tuple[Engine, ...], Count(0, MAX_STATES)] = ()
    """Engines that were compiled ahead of time; empty if the library compiles when it loads."""
    compute_capabilities: Annotated[tuple[str, ...], Count(0, MAX_SIZES)] = ()
    """GPU generations that the engines were compiled for; empty if that does not apply."""
    min_onnxruntime: Name | None = None
    """The oldest ONNX Runtime that runs it; None if another library runs it."""
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
        """A build from a document whose schema has been checked.

        Raises:
            UnreadableError: The error names every problem found.
        """
        return read(BuildManifest, data)

    def problems(self) -> list[str]:
        """Contradictions, and references to what is not in the build."""
        listed = {entry.path for entry in self.files}
        loaded = {f"roles.{name}.graph": role.graph for name, role in self.roles.items()}
        loaded |= {f"engines[{i}].path": engine.path for i, engine in enumerate(self.engines)}
        return [
            *twice(self.files),
            *(
                f"{field} is '{path}', which files does not list"
                for field, path in loaded.items()
                if path not in listed
            ),
            *(f"precision lacks the role '{name}'" for name in self.roles if name not in self.precision),
            *(
                f"engines[{i}].role is '{engine.role}', which roles has not"
                for i, engine in enumerate(self.engines)
                if engine.role not in self.roles
            ),
            *refused_options(self.engine_options),
            *(
                [f"engines are listed, and backend '{self.backend}' compiles graphs while it loads"]
                if self.engines and self.backend not in AHEAD_OF_TIME
                else []
            ),
        ]
