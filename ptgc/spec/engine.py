"""Engine: a file that a vendor's compiler made of one role, and facts about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

from ptgc.spec.fields import FilePath, Name, Range
from ptgc.spec.limits import MAX_COUNT

_Size = Annotated[int, Range(0, MAX_COUNT)]


@dataclass(frozen=True)
class Engine:
    """One engine of a build, compiled ahead of time."""

    role: Name
    """The role that it computes."""
    path: FilePath
    """Its file, relative to the build's folder."""
    sizes: dict[str, _Size]
    """Named dimensions with one size."""
    ranges: dict[str, tuple[_Size, _Size, _Size]]
    """Named dimensions that vary: the smallest size, the one to optimise for, and the largest."""
    engine_bytes: _Size
    """Bytes of the file."""
    weight_bytes: _Size
    """Bytes of the role's weights before compiling."""
    layers: dict[str, _Size]
    """Layers of the compiler's network by type."""
    not_native: dict[str, str]
    """Attention and cache updates that did not become layers of their own: the reason by module path."""
    updates_in_place: bool = True
    """Whether cache inputs and outputs share an address; otherwise it reads one buffer and writes another."""

    @property
    def weight_ratio(self) -> float:
        """Bytes of the engine over bytes of the weights."""
        return self.engine_bytes / max(1, self.weight_bytes)

    def to_json(self) -> dict[str, Any]:
        """This engine as build.json writes it."""
        return asdict(self) | {"ranges": {name: list(sizes) for name, sizes in self.ranges.items()}}
