"""Which shapes a build may run."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ptgc.errors import BuildError
from ptgc.spec.kv_cache import StateKind
from ptgc.spec.model_facts import ModelFacts
from ptgc.spec.plan import DecodePlan
from ptgc.spec.role import Role
from ptgc.spec.shapes import ShapePlan
from ptgc.spec.loop import Loop

DEFAULT_MAX_LENGTH = 1024
PREFILL_WIDTHS = (32, 64, 128)
_VERIFY_WIDTHS = (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, 64)
_BATCH_WIDTHS = (1, 2, 4, 8, 16, 32, 64)
_FIRST_LENGTH = 512
_FIRST_CANVAS = 32  # positions of the smallest canvas or source; each larger one has twice as many
_NO_ROLES: Mapping[str, Role] = MappingProxyType({})


def shape_plan(
    plan: DecodePlan,
    model: ModelFacts,
    max_length: int | None,
    batch_size: int,
    *,
    pays_for_capacity: bool,
    roles: Mapping[str, Role] = _NO_ROLES,
) -> ShapePlan:
    """The shapes for a plan on a model.

    Args:
        plan: The loop; the size of its tree is the widest round that is verified.
        model: Its context length bounds every sequence.
        max_length: Tokens of one sequence, prompt and text; None takes 1024 or the context, whichever is less.
        batch_size: Sequences that step together.
        pays_for_capacity: Whether a round costs more in a larger cache; then there are several capacities.
        roles: The bundle's; an encoder brings lengths of its source, layers with windows caches of their own.

    Raises:
        BuildError: Numbers out of range.
    """
    length = min(DEFAULT_MAX_LENGTH, model.context_length) if max_length is None else max_length
    if not 2 <= length <= model.context_length:
        raise BuildError(
            f"--max-length is {length}; this model has a context of {model.context_length} tokens.",
            f"Choose a length from 2 to {model.context_length}.",
        )
    if not 1 <= batch_size <= 256:
        raise BuildError(f"--batch-size is {batch_size}.", "Choose a number from 1 to 256.")
    sources = _source_lengths(length, model, roles)
    if plan.loop is not Loop.SPECULATIVE:
        return ShapePlan(batch_size, length, (), 0, (), sources, _canvas_lengths(plan, length, sources))
    nodes = plan.tree.num_nodes
    steps = _VERIFY_WIDTHS if batch_size == 1 else _BATCH_WIDTHS
    verify = sorted({width for width in steps if width < nodes} | {1, nodes})
    prefill = [width for width in PREFILL_WIDTHS if width > nodes]
    if nodes < 8:
        prefill = [8, 16, *prefill]
    widths = tuple(dict.fromkeys([*verify, *prefill]))
    slack = widths[-1]
    lengths = [length]
    if pays_for_capacity:
        lengths = [size for size in _doublings() if size < length] + [length]
    capacities = tuple(size + slack for size in lengths)
    return ShapePlan(
        batch_size,
        length,
        widths,
        nodes,
        capacities,
        sources,
        window_capacities=_window_capacities(roles, widths[-1], capacities[-1]),
    )


def _window_capacities(roles: Mapping[str, Role], widest: int, largest: int) -> dict[int, int]:
    """Slots of the caches that slide, by window.

    Windows slide together, whenever a text has grown by as many tokens as the widest round has rows, so that each holds
    what the widest of them sees, these tokens, and behind the last of them a round. Moving costs as much as reading the
    cache once.
    """
    windows = {
        state.window
        for role in roles.values()
        for state in role.states
        if state.kind is StateKind.WINDOW and state.window is not None
    }
    return {window: min(max(windows) - 1 + 2 * widest, largest) for window in sorted(windows)}


def _doublings() -> list[int]:
    return [_FIRST_LENGTH << power for power in range(12)]


def _source_lengths(length: int, model: ModelFacts, roles: Mapping[str, Role]) -> tuple[int, ...]:
    """Sizes of an encoder's input; none without an encoder."""
    if "encoder" not in roles:
        return ()
    return _sizes(min(length, roles["encoder"].context_length or model.context_length))


def _canvas_lengths(plan: DecodePlan, length: int, sources: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes of a canvas: of a one-shot decoder, those that its sources have."""
    if plan.one_shot is not None:
        return tuple(plan.one_shot.upsampling * size for size in sources)
    return _sizes(length)


def _sizes(longest: int) -> tuple[int, ...]:
    """Sizes up to the longest, each twice the one before."""
    sizes = [longest]
    while sizes[0] > _FIRST_CANVAS:
        sizes.insert(0, max(_FIRST_CANVAS, 1 << (sizes[0] - 1).bit_length() - 1))
    return tuple(sizes)
