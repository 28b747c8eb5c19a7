"""The shapes that a build may run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ptgc.errors import BuildError
from ptgc.spec import ports
from ptgc.spec.canvas import CanvasCache, CanvasPlan
from ptgc.spec.drafter import OneRunDrafter
from ptgc.spec.kv_cache import StateKind
from ptgc.spec.limits import MAX_BATCH
from ptgc.spec.model_facts import ModelFacts
from ptgc.spec.plan import DecodePlan
from ptgc.spec.role import Role, sharing_roles
from ptgc.spec.shapes import RoleShapes, ShapePlan

DEFAULT_MAX_LENGTH = 1024
PREFILL_WIDTHS = (32, 64, 128)
_VERIFY_WIDTHS = (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, 64)
_BATCH_WIDTHS = (1, 2, 4, 8, 16, 32, 64)
_DRAFTING_WIDTHS = (1, 2, 4, 8, 16, 32, 64, 128)  # one token, the tokens added by the last round, and chunks of prompts
_DELAYED_WIDTHS = (8, 16)  # the last rounds of a canvas, few of whose positions are still masked
_FIRST_LENGTH = 512
_FIRST_CANVAS = 32  # positions of the smallest canvas or source; each larger one has twice as many


def shape_plan(
    plan: DecodePlan,
    model: ModelFacts,
    max_length: int | None,
    batch_size: int,
    *,
    pays_for_capacity: bool,
    roles: Mapping[str, Role],
) -> ShapePlan:
    """The shapes for a plan on a model.

    Args:
        plan: The loop; the size of its tree is the widest round that is verified.
        model: Its context length bounds every sequence.
        max_length: Most tokens of one sequence (prompt and text); None takes 1024 or the context, whichever is less.
        batch_size: Sequences that are decoded together.
        pays_for_capacity: Whether a round costs more in a larger cache; then there are several capacities.
        roles: The bundle's; each gets the sizes that its ports and states have.

    Raises:
        BuildError: A number is out of range.
    """
    length = min(DEFAULT_MAX_LENGTH, model.context_length) if max_length is None else max_length
    if not 2 <= length <= model.context_length:
        raise BuildError(
            f"--max-length is {length}; this model has a context of {model.context_length} tokens.",
            f"Choose a length from 2 to {model.context_length}.",
        )
    if not 1 <= batch_size <= 256:
        raise BuildError(f"--batch-size is {batch_size}.", "Choose a number from 1 to 256.")
    rows = 1 + (plan.canvas.num_draft_steps if plan.canvas is not None else 0)
    if batch_size * rows > MAX_BATCH:
        raise BuildError(
            f"--batch-size is {batch_size}; with {rows} rows for each text, {rows - 1} of them for drafted "
            f"steps, a run has more than {MAX_BATCH} rows.",
            f"Choose at most {MAX_BATCH // rows}.",
        )
    lengths = [length]
    if pays_for_capacity:
        lengths = [size for size in _doublings() if size < length] + [length]
    sources = _source_lengths(length, model, roles)
    canvases = _canvas_lengths(plan, length, sources)
    widths = {name: _widths(name, role, plan, batch_size, canvases) for name, role in roles.items()}
    found = {}
    for name, role in roles.items():
        sharing = sharing_roles(name, roles)
        slack = max(max(widths[other], default=0) for other in sharing)
        capacities = tuple(size + slack for size in lengths) if widths[name] else ()
        found[name] = RoleShapes(
            widths[name],
            _verify_width(name, plan, widths[name]) if ports.NUM_LOGITS in role.dimensions else 0,
            capacities,
            _window_capacities([roles[other] for other in sharing], slack, max(capacities, default=0)),
            sources if ports.SOURCE_LENGTH in role.dimensions else (),
            canvases if ports.CANVAS_LENGTH in role.dimensions else (),
        )
    return ShapePlan(batch_size * rows, length, found)


def _widths(name: str, role: Role, plan: DecodePlan, batch_size: int, canvases: tuple[int, ...]) -> tuple[int, ...]:
    """The widths (rows) of a role's rounds: rows that are verified or drafted together, and chunks of prompts."""
    if ports.NUM_TOKENS not in role.dimensions:
        return ()
    if plan.canvas is not None:
        return _canvas_widths(plan.canvas, canvases)
    if isinstance(plan.drafter, OneRunDrafter) and name == "drafter":
        return _one_run_widths(plan.drafter)
    nodes = _verify_width(name, plan, ())
    if nodes == 1 and name != "target":
        return _DRAFTING_WIDTHS
    steps = _VERIFY_WIDTHS if batch_size == 1 else _BATCH_WIDTHS
    verify = sorted({width for width in steps if width < nodes} | {1, nodes})
    prefill = [width for width in PREFILL_WIDTHS if width > nodes]
    if nodes < 8:
        prefill = [8, 16, *prefill]
    return tuple(dict.fromkeys([*verify, *prefill]))


def _canvas_widths(plan: CanvasPlan, canvases: tuple[int, ...]) -> tuple[int, ...]:
    """Widths of a denoiser's rounds: whole canvases, and of caches that approximate what changes of them."""
    if plan.keeps_blocks:
        return _block_widths(plan.block_length)
    if not plan.approximates:
        return canvases
    fewer = _DELAYED_WIDTHS if plan.cache is CanvasCache.DELAYED else ()
    block = plan.block_length + (1 if plan.shift else 0)  # the row before predicts the first position
    return tuple(sorted({*canvases, *(size for size in (*fewer, block) if 1 < size < canvases[-1])}))


def _block_widths(length: int) -> tuple[int, ...]:
    """Widths of block diffusion's rounds: one block, one after the block just finished, and chunks of prompts."""
    widths = [length, 2 * length]
    while 2 * widths[-1] <= PREFILL_WIDTHS[-1]:
        widths.append(2 * widths[-1])
    return tuple(widths)


def _one_run_widths(drafter: OneRunDrafter) -> tuple[int, ...]:
    """Widths for the tokens that the last round added, and the other rows of a run; without states, of fewer masks."""
    least = drafter.least_rows
    added = [drafter.rows_at_once - 1 + rows for rows in _VERIFY_WIDTHS if rows <= least + 1]
    shorter = [] if drafter.taps else [rows for rows in _VERIFY_WIDTHS if rows < least]
    prefill = [rows for rows in PREFILL_WIDTHS if rows > 2 * least]
    return tuple(sorted({1, *shorter, *added, 2 * least, *prefill}))


def _verify_width(name: str, plan: DecodePlan, widths: tuple[int, ...]) -> int:
    """Rows for which a role gives logits at once: all nodes for a target, one for a role that drafts a chain.

    A drafter of whole proposals gives them for every depth, and a denoiser for a block.
    """
    if plan.canvas is not None:
        return min(plan.canvas.block_length or widths[-1], widths[-1])
    if isinstance(plan.drafter, OneRunDrafter) and name == "drafter":
        return plan.drafter.num_logits(plan.tree)
    return plan.tree.num_nodes if name == "target" or not plan.tree.is_chain else 1


def _window_capacities(roles: Sequence[Role], widest: int, largest: int) -> dict[int, int]:
    """Slots of the sliding caches, by window.

    All windows slide together, each time a text has grown by as many tokens as the widest round has rows. A cache
    therefore holds the widest window, these tokens, and one round behind the last of them. Sliding costs as much as
    reading the cache once.

    Args:
        roles: The roles whose caches slide together.
        widest: Rows of their widest round.
        largest: Slots of the caches that do not slide.
    """
    states = [state for role in roles for state in role.states if state.kind is StateKind.WINDOW]
    windows = {state.window for state in states if state.window is not None}
    return {window: min(max(windows) - 1 + 2 * widest, largest) for window in sorted(windows)}


def _doublings() -> list[int]:
    return [_FIRST_LENGTH << power for power in range(12)]


def _source_lengths(length: int, model: ModelFacts, roles: Mapping[str, Role]) -> tuple[int, ...]:
    """Sizes of an encoder's input; none without an encoder."""
    if "encoder" not in roles:
        return ()
    return _sizes(min(length, roles["encoder"].context_length or model.context_length))


def _canvas_lengths(plan: DecodePlan, length: int, sources: tuple[int, ...]) -> tuple[int, ...]:
    """Sizes of a canvas; for a one-shot decoder they follow from the sizes of its sources."""
    if plan.one_shot is not None:
        return tuple(plan.one_shot.upsampling * size for size in sources)
    return _sizes(length)


def _sizes(longest: int) -> tuple[int, ...]:
    """Sizes up to the longest, each twice the one before."""
    sizes = [longest]
    while sizes[0] > _FIRST_CANVAS:
        sizes.insert(0, max(_FIRST_CANVAS, 1 << (sizes[0] - 1).bit_length() - 1))
    return tuple(sizes)
