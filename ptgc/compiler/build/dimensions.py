"""The sizes that the named dimensions of a role's graph take in a build."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ptgc.errors import BuildError
from ptgc.spec import ports
from ptgc.spec.shapes import RoleShapes, ShapePlan


@dataclass(frozen=True)
class Range:
    """A dimension that varies from round to round."""

    least: int
    """The smallest size."""
    best: int
    """The size to optimise for."""
    most: int
    """The largest size."""


@dataclass(frozen=True)
class Dimensions:
    """The sizes of one engine."""

    fixed: dict[str, int]
    """Named dimensions with one size."""
    ranges: dict[str, Range]
    """Named dimensions that vary."""
    kv_capacity: int = 0
    """The cache capacity that the engine is for; 0 without a cache."""


def engine_dimensions(names: Iterable[str], shapes: ShapePlan, role: str, mask_extra: int = 0) -> list[Dimensions]:
    """The sizes of every engine that a role needs, the smallest cache first.

    A cache has a fixed size in an engine, so each capacity is an engine of its own. Every other dimension is one range,
    because a profile for each shape would repeat the weights in the engine (measured in docs/tensorrt.md).

    Args:
        names: The named dimensions of the role's inputs.
        shapes: The shapes that the build may run.
        role: The role.
        mask_extra: Slots that its mask covers in addition to the round's own.

    Raises:
        BuildError: A dimension has no size in the shapes.
    """
    names = list(names)
    own = shapes.roles[role]
    sizes = _sizes(shapes.batch, own, mask_extra)
    windows = {ports.window_capacity(window): slots for window, slots in own.window_capacities.items()}
    caches = [name for name in names if name == ports.KV_CAPACITY or name in windows]
    rest = [name for name in names if name not in caches]
    unknown = [name for name in rest if not sizes.get(name)]
    if unknown:
        known = ", ".join(name for name, values in sizes.items() if values)
        raise BuildError(
            f"The graph of role '{role}' has dimensions that this build gives no size: {', '.join(unknown)}.",
            f"The build has sizes for {known}; name the dimensions of the role's ports so.",
        )
    verified = own.verify_width
    best: dict[str, int] = {
        ports.NUM_TOKENS: verified,
        ports.NUM_LOGITS: verified,
        ports.MASK_SLOTS: verified + mask_extra,
    }
    ranges = {name: _range(sizes[name], best.get(name)) for name in rest if len(sizes[name]) > 1}
    fixed = {name: sizes[name][0] for name in rest if name not in ranges}
    if not caches:
        return [Dimensions(fixed, ranges)]
    return [
        Dimensions(fixed | {name: min(windows.get(name, capacity), capacity) for name in caches}, ranges, capacity)
        for capacity in own.kv_capacities
    ]


def _sizes(batch: int, shapes: RoleShapes, mask_extra: int) -> dict[str, tuple[int, ...]]:
    """All sizes of every named dimension except the caches', ascending."""
    return {
        ports.BATCH: (batch,),
        ports.NUM_TOKENS: shapes.widths,
        ports.MASK_SLOTS: tuple(width + mask_extra for width in shapes.widths),
        ports.NUM_LOGITS: shapes.num_logits,
        ports.SOURCE_LENGTH: shapes.source_lengths,
        ports.CANVAS_LENGTH: shapes.canvas_lengths,
    }


def _range(sizes: tuple[int, ...], best: int | None) -> Range:
    """The range of some sizes. The best size defaults to the largest, which costs most."""
    return Range(sizes[0], sizes[-1] if best is None else min(best, sizes[-1]), sizes[-1])
