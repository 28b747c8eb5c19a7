"""ShapePlan: the shapes that each role of a build may run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from ptgc.spec.fields import Count, Length, Range
from ptgc.spec.limits import MAX_BATCH, MAX_CAPACITY, MAX_SIZES, MAX_WIDTH

_Width = Annotated[int, Range(1, MAX_WIDTH)]
_Capacity = Annotated[int, Range(1, MAX_CAPACITY)]
_SIZES = Count(0, MAX_SIZES, ascending=True)


@dataclass(frozen=True)
class RoleShapes:
    """Every shape that one role may run; the runtime uses no others.

    A round runs at the smallest width that holds its rows. `kv_capacities` exceed the lengths that they are for by the
    largest width, because padded rows are written too; rows that a lowering adds stay within that width.
    """

    widths: Annotated[tuple[_Width, ...], _SIZES]
    """Numbers of rows of a round, ascending; for a language model the first is 1 and the last a prefill chunk."""
    verify_width: Annotated[int, Range(0, MAX_WIDTH)]
    """The widest round whose every row has logits; wider ones are prefill, with logits for the last row."""
    kv_capacities: Annotated[tuple[_Capacity, ...], _SIZES]
    """Cache sizes, ascending; a session that outgrows one moves to the next by a copy."""
    window_capacities: Annotated[dict[Length, _Capacity], Count(0, MAX_SIZES)] = field(default_factory=dict)
    """Cache size of the layers of each window, at most the size of the other caches in use. Smaller ones slide every
    few positions: each holds the widest window, these positions, and the widest round behind the last of them."""
    source_lengths: Annotated[tuple[Length, ...], _SIZES] = ()
    """Sizes of an encoder's input, ascending; empty for a role that neither reads a source nor attends to one."""
    canvas_lengths: Annotated[tuple[Length, ...], _SIZES] = ()
    """Sizes of a canvas, ascending; empty for a role without one."""

    @property
    def num_logits(self) -> tuple[int, ...]:
        """How many rows of logits rounds may have, ascending."""
        return tuple(sorted({min(width, most) for width in self.widths for most in (1, self.verify_width)} - {0}))

    def to_json(self) -> dict[str, Any]:
        """These shapes as build.json writes them."""
        return {
            "widths": list(self.widths),
            "verify_width": self.verify_width,
            "kv_capacities": list(self.kv_capacities),
            "window_capacities": {str(window): size for window, size in self.window_capacities.items()},
            "source_lengths": list(self.source_lengths),
            "canvas_lengths": list(self.canvas_lengths),
        }


@dataclass(frozen=True)
class ShapePlan:
    """Every shape that a build may run, role by role."""

    batch: Annotated[int, Range(1, MAX_BATCH)]
    """Rows of a run: a sequence has one, and with drafted steps of a canvas one more for each."""
    max_length: Length
    """Tokens of one sequence, prompt and text."""
    roles: dict[str, RoleShapes]
    """Shapes of each role."""

    def to_json(self) -> dict[str, Any]:
        """This plan as build.json writes it."""
        roles = {name: shapes.to_json() for name, shapes in self.roles.items()}
        return {"batch": self.batch, "max_length": self.max_length, "roles": roles}
