"""CompilerOptions: how engines are compiled ahead of time, under trtexec's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
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

    compute_capabilities: tuple[str, ...] = ()
    """GPU generations (`8.6`) to compile for; none takes the compiler's own choice."""
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
    engines: Mapping[str, Path] = field(default_factory=dict)
    """Engines by role that were compiled elsewhere, from this build's prepared graphs, and are adopted."""

    def settings(self) -> dict[str, str]:
        """What the engine depends on and differs from the defaults, by option; for the build's provenance."""
        portable = self.hardware_compatibility is not HardwareCompatibility.NONE
        found: dict[str, Any] = {
            "--builder-optimization-level": self.optimization_level,
            "--workspace": self.workspace,
            "--hardware-compatibility-level": self.hardware_compatibility.value if portable else None,
            "--version-compatible": "" if self.version_compatible else None,
            "--refit": "" if self.refit else None,
            "--strip-weights": "" if self.strip_weights else None,
        }
        return {name: str(value) for name, value in found.items() if value is not None}

    def given(self) -> list[str]:
        """The options that differ from the defaults."""
        others = {
            "--compute-capability": self.compute_capabilities,
            "--timing-cache-file": self.timing_cache,
            "--engine": self.engines,
        }
        return [*(name for name, value in others.items() if value), *self.settings()]
