"""CompilerOptions: how engines are compiled ahead of time, under trtexec's names."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any


class HardwareCompatibility(str, Enum):
    """On which other GPUs an engine may run."""

    NONE = "none"
    """On those that it was compiled for."""
    AMPERE_PLUS = "ampere+"
    """On every one of compute capability 8.0 and newer."""
    SAME_COMPUTE_CAPABILITY = "same-compute-capability"
    """On every one of the same compute capability."""


@dataclass(frozen=True)
class CompilerOptions:
    """What the compiler is told; the defaults are its own."""

    optimization_level: int | None = None
    """How long it looks for faster kernels, 0 to 5; None takes its default."""
    workspace: int | None = None
    """Most scratch memory of a layer in MiB; None takes what the device has."""
    hardware_compatibility: HardwareCompatibility = HardwareCompatibility.NONE
    """On which other GPUs the engine may run."""
    version_compatible: bool = False
    """Whether later versions of the library may run the engine."""
    refit: bool = False
    """Whether weights may be replaced in the engine."""
    strip_weights: bool = False
    """Whether weights are left out, to be refitted on the device."""
    timing_cache: Path | None = None
    """File of measured kernels, read and written; None takes the user's cache."""
    engines: MappingProxyType[str, Path] = field(default_factory=lambda: MappingProxyType({}))
    """Engines by role that were compiled elsewhere, from this build's prepared graphs, and are adopted."""

    def given(self) -> dict[str, Any]:
        """What differs from the defaults, by trtexec's names, for messages and for the build's provenance."""
        found = {
            "builderOptimizationLevel": self.optimization_level,
            "memPoolSize=workspace": self.workspace,
            "hardwareCompatibilityLevel": self.hardware_compatibility.value if self._is_portable else None,
            "versionCompatible": self.version_compatible or None,
            "refit": self.refit or None,
            "stripWeights": self.strip_weights or None,
        }
        return {name: value for name, value in found.items() if value is not None}

    @property
    def _is_portable(self) -> bool:
        return self.hardware_compatibility is not HardwareCompatibility.NONE
