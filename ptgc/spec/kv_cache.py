"""KVCache: a list of per-layer states, each with its own kind and shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from enum import Enum
from typing import Annotated

from ptgc.spec import ports
from ptgc.spec.fields import Length, Name, Range
from ptgc.spec.limits import MAX_HEADS, MAX_STATES
from ptgc.spec.ports import DType, Port


class StateKind(str, Enum):
    """What a layer keeps between rounds."""

    FULL = "full"
    """Keys and values of every committed token."""
    WINDOW = "window"
    """Keys and values of which only the last `window` are attended to, in a sliding cache with its own capacity."""
    CROSS = "cross"
    """Keys and values of an encoder's output, written once per text."""


@dataclass(frozen=True)
class SharedLayer:
    """A layer of another role whose cache is used."""

    role: Name
    """The role that owns the cache."""
    layer: Annotated[int, Range(0, MAX_STATES - 1)]
    """Index of the state in that role."""


@dataclass(frozen=True)
class LayerState:
    """The state of one layer."""

    kind: StateKind
    """What is kept."""
    kv_heads: Annotated[int, Range(1, MAX_HEADS)]
    """Heads of keys and of values."""
    head_dim: Annotated[int, Range(1, MAX_HEADS)]
    """Size of one head."""
    dtype: DType
    """Element type."""
    window: Length | None = None
    """Tokens attended to, the current one included; None for all."""
    shared_with: SharedLayer | None = None
    """The layer that owns this cache, if another role does; None for the role's own cache."""

    def may_share(self, owner: LayerState) -> bool:
        """Whether this layer can use `owner`'s cache: it has the same form, and its role owns it."""
        return owner.shared_with is None and owner == replace(self, shared_with=None)

    @property
    def bytes_per_token(self) -> int:
        """Bytes of keys and values of one token."""
        return 2 * self.kv_heads * self.head_dim * self.dtype.itemsize

    @property
    def capacity(self) -> str:
        """The name of the dimension of its slots."""
        if self.kind is StateKind.CROSS:
            return ports.SOURCE_LENGTH
        if self.kind is StateKind.WINDOW and self.window is not None:
            return ports.window_capacity(self.window)
        return ports.KV_CAPACITY

    def past_ports(self, layer: int) -> tuple[Port, Port]:
        """The two input ports of this state."""
        return self._ports(ports.cross_past if self.kind is StateKind.CROSS else ports.past, layer)

    def present_ports(self, layer: int) -> tuple[Port, Port]:
        """The two output ports of this state: updated in place, or written by an encoder for a target to read."""
        return self._ports(ports.cross_present if self.kind is StateKind.CROSS else ports.present, layer)

    def _ports(self, name: Callable[[int, str], str], layer: int) -> tuple[Port, Port]:
        shape = (ports.BATCH, self.kv_heads, self.capacity, self.head_dim)
        return Port(name(layer, "key"), self.dtype, shape), Port(name(layer, "value"), self.dtype, shape)

    def to_json(self) -> dict[str, object]:
        """This state as the manifest writes it."""
        return {k: v.value if isinstance(v, Enum) else v for k, v in asdict(self).items()}
