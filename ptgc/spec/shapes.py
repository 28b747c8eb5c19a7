"""ShapePlan: the shapes that a build may run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from ptgc.spec.fields import Count, Length, Range
from ptgc.spec.limits import MAX_BATCH, MAX_CAPACITY, MAX_SIZES, MAX_WIDTH

_Width = Annotated[int, Range(1, MAX_WIDTH)]
_Capacity = Annotated[int, Range(1, MAX_CAPACITY)]
_SIZES = Count(0, MAX_SIZES, ascending=True)


@dataclass(frozen=True, order=True)
class ShapePoint:
    """One tuple of sizes at which a role's graph may run."""

    batch: int
    """Sequences."""
    num_tokens: int
    """Rows of a round."""
    kv_capacity: int
    """Slots of the cache."""
    num_logits: int
    """Rows for which logits are computed."""

    def to_json(self) -> list[int]:
        """`[batch, num_tokens, kv_capacity, num_logits]`."""
        return [self.batch, self.num_tokens, self.kv_capacity, self.num_logits]


@dataclass(frozen=True)
class ShapePlan:
    """Every shape that a build may run; the runtime never leaves it.

    A round runs at the smallest width that holds its rows. `kv_capacities` exceed the lengths they serve by the
    largest width, because padded rows are written too; those that a lowering adds are within that width.
    """

    batch: Annotated[int, Range(1, MAX_BATCH)]
    """Sequences that step together."""
    max_length: Length
    """Tokens of one sequence, prompt and text."""
    widths: Annotated[tuple[_Width, ...], _SIZES]
    """Numbers of rows of a round, ascending; the first is 1, the last a prefill chunk."""
    verify_width: Annotated[int, Range(0, MAX_WIDTH)]
    """The widest round whose every row has logits; wider ones are prefill, with logits for the last row."""
    kv_capacities: Annotated[tuple[_Capacity, ...], _SIZES]
    """Cache sizes, ascending; a session that outgrows one moves to the next by a copy."""
    source_lengths: Annotated[tuple[Length, ...], _SIZES] = ()
    """Sizes of an encoder's input, ascending; none where there is no encoder."""
    canvas_lengths: Annotated[tuple[Length, ...], _SIZES] = ()
    """Sizes of a canvas, ascending; none where the loop has no canvas."""
    window_capacities: Annotated[dict[Length, _Capacity], Count(0, MAX_SIZES)] = field(default_factory=dict)
    """Cache size of the layers of each window, at most that of the others in use. Smaller ones slide every few
    positions: each holds what the widest window sees, these positions, and behind the last of them the widest round."""

    @property
    def points(self) -> tuple[ShapePoint, ...]:
        """All shape points, ascending."""
        found = set()
        for capacity in self.kv_capacities:
            for width in self.widths:
                found.add(ShapePoint(self.batch, width, capacity, 1))
                found.add(ShapePoint(self.batch, width, capacity, min(width, self.verify_width)))
        return tuple(sorted(found))

    def to_json(self) -> dict[str, Any]:
        """This plan as build.json writes it."""
        return {
            "batch": self.batch,
            "max_length": self.max_length,
            "widths": list(self.widths),
            "verify_width": self.verify_width,
            "kv_capacities": list(self.kv_capacities),
            "source_lengths": list(self.source_lengths),
            "canvas_lengths": list(self.canvas_lengths),
            "window_capacities": {str(window): size for window, size in self.window_capacities.items()},
        }
