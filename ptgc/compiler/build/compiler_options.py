"""CompilerOptions: options of compiling ahead of time, under trtexec's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any


class HardwareCompatibility(str, Enum):
    """Which GPUs, other than those compiled for, an engine may run on."""

    NONE = "none"
    """None."""
    AMPERE_PLUS = "ampere+"
    """All of compute capability 8.0 and newer."""
    SAME_COMPUTE_CAPABILITY = "same-compute-capability"
    """All of the same compute capability."""


@dataclass(frozen=True)
class CompilerOptions:
    """Options of the compiler; the defaults are the compiler's own."""

    compute_capabilities: tuple[str, ...] = ()
    """GPU generations (such as `8.6`) to compile for; empty leaves the choice to the compiler."""
    optimization_level: int | None = None
    """How hard it searches for faster kernels, 0 to 5; None takes its default."""
    workspace: int | None = None
    """Most scratch memory of a layer in MiB; None allows what the device has."""
    hardware_compatibility: HardwareCompatibility = HardwareCompatibility.NONE
    """Which other GPUs the engine may run on."""
    version_compatible: bool = False
    """Whether later versions of the library may run the engine."""
    refit: bool = False
    """Whether weights may be replaced in the engine."""
    strip_weights: bool = False
    """Whether weights are left out of the engine, to be refitted on the device."""
    timing_cache: Path | None = None
    """File of kernel timings, read and written; None takes the one in the user's cache."""
    engines: Mapping[str, Path] = field(default_factory=dict)
    """Engines to take over, by role: compiled elsewhere from this build's prepared graphs."""

    def settings(self) -> dict[str, str]:
        """The options that shape the engine and differ from the defaults, for the build's provenance."""
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
