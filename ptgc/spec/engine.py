"""Engine: a file that a vendor's compiler made of one role, and what is known of it."""

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
    """Named dimensions that have one size in it."""
    ranges: dict[str, tuple[_Size, _Size, _Size]]
    """Named dimensions that may vary: the least size, the one that it is optimised for, and the largest."""
    engine_bytes: _Size
    """Bytes of the file."""
    weight_bytes: _Size
    """Bytes of the role's weights before compiling."""
    layers: dict[str, _Size]
    """Layers of the compiler's network by type."""
    not_native: dict[str, str]
    """Attention and cache updates that are no layer of their own, by the path of their module, and why."""
    updates_in_place: bool = True
    """Whether caches come in and go out at one address; otherwise it reads one while it writes another."""

    @property
    def weight_ratio(self) -> float:
        """Bytes of the engine over bytes of the weights: what the vendor adds."""
        return self.engine_bytes / max(1, self.weight_bytes)

    def to_json(self) -> dict[str, Any]:
        """This engine as build.json writes it."""
        return asdict(self) | {"ranges": {name: list(sizes) for name, sizes in self.ranges.items()}}
