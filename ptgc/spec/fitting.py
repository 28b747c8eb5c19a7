"""Checks that a manifest and a build fit together: lengths that a loop needs, tokens, sizes of buffers."""

from __future__ import annotations

from collections.abc import Mapping

from ptgc.spec import ports
from ptgc.spec.canvas import CanvasPlan
from ptgc.spec.drafter import MaskDrafter, OneRunDrafter
from ptgc.spec.edit import EditPlan, EditStart
from ptgc.spec.kv_cache import LayerState, StateKind
from ptgc.spec.limits import MAX_BUFFER_BYTES
from ptgc.spec.loop import Loop
from ptgc.spec.model_facts import ModelFacts, foreign_tokens
from ptgc.spec.plan import DecodePlan
from ptgc.spec.role import Role
from ptgc.spec.role_ports import role_problems
from ptgc.spec.shapes import RoleShapes, ShapePlan

_NUMBER = 8  # bytes of a token, a position or a length
_SHORTEST_EDITED = 3  # tokens of a canvas: begin, end, and one between


def plan_problems(plan: DecodePlan, model: ModelFacts, roles: Mapping[str, Role]) -> list[str]:
    """Contradictions within a manifest."""
    found = foreign_tokens(_plan_tokens(plan), model.vocab_size)
    found += role_problems(plan, roles)
    if plan.loop is Loop.SPECULATIVE and "encoder" in roles and model.decoder_start_token_id is None:
        found.append("model.decoder_start_token_id is null; texts behind an encoder start with it")
    if plan.edit is not None:
        found += _edit_problems(plan.edit, model)
    if isinstance(plan.drafter, MaskDrafter) and "drafter" in roles:
        mask, sizes = plan.drafter.mask_token_id, _logits_sizes(roles["drafter"])
        found += [
            f"plan.drafter.mask_token_id is {mask}; roles.drafter has {size} tokens" for size in sizes if mask >= size
        ]
    if "target" in roles:
        found += [
            f"roles.target gives logits of {size} tokens; model.vocab_size is {model.vocab_size}"
            for size in _logits_sizes(roles["target"])
            if size != model.vocab_size
        ]
    return found


def _logits_sizes(role: Role) -> list[int]:
    """The vocabulary of a role that gives logits."""
    return [port.shape[-1] for port in role.outputs if port.name == "logits" and isinstance(port.shape[-1], int)]


def _edit_problems(plan: EditPlan, model: ModelFacts) -> list[str]:
    """A source that is edited must have the text's vocabulary."""
    if plan.start is EditStart.EMPTY or model.source_vocab_size in (None, model.vocab_size):
        return []
    return [f"plan.edit.start is source, of {model.source_vocab_size} tokens; model.vocab_size is {model.vocab_size}"]


def _plan_tokens(plan: DecodePlan) -> list[tuple[str, int]]:
    """The tokens that the policies name, which must be in the model's vocabulary."""
    found = []
    if plan.canvas is not None:
        found.append(("plan.canvas.mask_token_id", plan.canvas.mask_token_id))
    if plan.one_shot is not None:
        found.append(("plan.one_shot.blank_token_id", plan.one_shot.blank_token_id))
    if plan.edit is not None:
        found += [(f"plan.edit.{name}", token) for name, token in plan.edit.special_tokens.items()]
    return found


def shape_problems(
    plan: DecodePlan, model: ModelFacts, shapes: ShapePlan, roles: Mapping[str, Role], before: Mapping[str, Role]
) -> list[str]:
    """What does not fit in a build: within itself, with its loop or with its bundle.

    Args:
        plan: The bundle's.
        model: The bundle's.
        shapes: The build's.
        roles: The build's.
        before: The bundle's.
    """
    found = plan_problems(plan, model, roles)
    if roles.keys() != before.keys():
        found.append(f"roles has {', '.join(sorted(roles))}; the bundle has {', '.join(sorted(before))}")
    found += [f"shapes.roles lacks '{name}'" for name in sorted(roles.keys() - shapes.roles.keys())]
    found += [
        f"shapes.roles has '{name[:48]}', which is no role of the build"
        for name in sorted(shapes.roles.keys() - roles.keys())
    ]
    fitting = {name: role for name, role in roles.items() if name in shapes.roles}
    for name, role in fitting.items():
        found += _role_problems(f"shapes.roles.{name}", role, shapes.roles[name], shapes.max_length)
    found += _agreement_problems(shapes, fitting)
    found += _plan_problems(plan, shapes)
    return found or _size_problems(shapes, roles)


def _role_problems(place: str, role: Role, shapes: RoleShapes, max_length: int) -> list[str]:
    """Shapes of a role that do not fit its ports and states."""
    dimensions = role.dimensions
    needs = {
        "widths": ports.NUM_TOKENS,
        "verify_width": ports.NUM_LOGITS,
        "kv_capacities": ports.NUM_TOKENS,
        "source_lengths": ports.SOURCE_LENGTH,
        "canvas_lengths": ports.CANVAS_LENGTH,
    }
    found = []
    for field, dimension in needs.items():
        value = getattr(shapes, field)
        if dimension in dimensions and not value:
            said = value if field == "verify_width" else "empty"
            found.append(f"{place}.{field} is {said}; the role's ports have {dimension}")
        elif dimension not in dimensions and value:
            found.append(f"{place}.{field} is given, and no port of the role has {dimension}")
    if ports.NUM_TOKENS in dimensions and shapes.widths and shapes.kv_capacities:
        found += _round_problems(place, role, shapes, max_length)
    return found


def _round_problems(place: str, role: Role, shapes: RoleShapes, max_length: int) -> list[str]:
    found = []
    widest = shapes.widths[-1]
    if ports.NUM_LOGITS in role.dimensions and ports.COLUMN_IDS not in role.inputs and shapes.widths[0] != 1:
        found.append(f"{place}.widths must ascend from 1")
    if shapes.verify_width > widest:
        found.append(f"{place}.verify_width is {shapes.verify_width}; it must be from 1 to {widest}")
    if shapes.kv_capacities[-1] < max_length + widest:
        found.append(f"{place}.kv_capacities must reach max_length and the largest width, {max_length + widest}")
    if shapes.kv_capacities[0] < widest:
        found.append(f"{place}.kv_capacities must hold the largest width, {widest}")
    return found + _window_problems(place, role, shapes)


def _window_problems(place: str, role: Role, shapes: RoleShapes) -> list[str]:
    """Sliding caches must hold what the widest window sees plus the widest round, or be as large as the others."""
    windows = {state.window for state in role.states if state.kind is StateKind.WINDOW and state.window is not None}
    found = [
        f"{place}.window_capacities lacks the window of {window} tokens"
        for window in sorted(windows - shapes.window_capacities.keys())
    ]
    if shapes.window_capacities:
        least = min(max(shapes.window_capacities) - 1 + shapes.widths[-1], shapes.kv_capacities[-1])
        found += [
            f"{place}.window_capacities.{window} is {capacity}; it must be at least {least}"
            for window, capacity in shapes.window_capacities.items()
            if capacity < least
        ]
    return found


def _agreement_problems(shapes: ShapePlan, roles: Mapping[str, Role]) -> list[str]:
    """Roles that pass each other sources, canvases or caches must have the same sizes of them."""
    found = []
    for field in ("source_lengths", "canvas_lengths"):
        given = {name: getattr(shapes.roles[name], field) for name in roles if getattr(shapes.roles[name], field)}
        first = next(iter(given), "")
        found += [
            f"shapes.roles.{name}.{field} is not that of '{first}'"
            for name, sizes in given.items()
            if sizes != given[first]
        ]
    for name, role in roles.items():
        own = shapes.roles[name]
        for owner in sorted(role.owners & roles.keys()):
            other = shapes.roles[owner]
            found += [
                f"shapes.roles.{name}.{field} is not that of '{owner}', whose cache the role shares"
                for field in ("kv_capacities", "window_capacities")
                if getattr(own, field) != getattr(other, field)
            ]
    return found


def _plan_problems(plan: DecodePlan, shapes: ShapePlan) -> list[str]:
    """Shapes that are too small for the plan's rounds."""
    found = []
    target = shapes.roles.get("target")
    if target is not None and plan.tree.num_nodes > target.verify_width:
        found.append(
            f"shapes.roles.target.verify_width is {target.verify_width}; plan.tree has {plan.tree.num_nodes} nodes"
        )
    found += _one_run_problems(plan, shapes)
    if plan.canvas is not None and "denoiser" in shapes.roles:
        found += _denoiser_problems(plan.canvas, shapes.roles["denoiser"], shapes.max_length)
    rows = 1 + (plan.canvas.num_draft_steps if plan.canvas is not None else 0)
    if shapes.batch % rows:
        found.append(f"shapes.batch is {shapes.batch}; with plan.canvas.num_draft_steps it is a multiple of {rows}")
    for name, own in shapes.roles.items():
        if not own.canvas_lengths:
            continue
        place, longest = f"shapes.roles.{name}.canvas_lengths", own.canvas_lengths[-1]
        if plan.one_shot is not None:
            if own.canvas_lengths != tuple(plan.one_shot.upsampling * size for size in own.source_lengths):
                found.append(f"{place} must be source_lengths times {plan.one_shot.upsampling}")
        elif longest < (least := max(shapes.max_length, _SHORTEST_EDITED if plan.edit is not None else 1)):
            found.append(f"{place} ends with {longest}; texts have up to {least} tokens")
        if plan.canvas is not None and plan.canvas.block_length > longest:
            found.append(f"plan.canvas.block_length is {plan.canvas.block_length}; the largest canvas is {longest}")
    return found


def _denoiser_problems(plan: CanvasPlan, own: RoleShapes, longest: int) -> list[str]:
    """A round of a language model must have rows for what it reads, and logits for what it fills."""
    if not own.widths:
        return []
    place, found = "shapes.roles.denoiser", []
    if plan.block_length > own.widths[-1]:
        found.append(f"{place}.widths ends with {own.widths[-1]}; plan.canvas.block_length is {plan.block_length}")
    if not plan.keeps_blocks and own.widths[-1] < longest:
        found.append(f"{place}.widths ends with {own.widths[-1]}; rounds read whole texts, of up to {longest} tokens")
    filled = min(plan.block_length or longest, longest)
    if own.verify_width < filled:
        found.append(f"{place}.verify_width is {own.verify_width}; rounds fill up to {filled} positions")
    return found


def _one_run_problems(plan: DecodePlan, shapes: ShapePlan) -> list[str]:
    """A drafter that drafts everything in one run needs rows for it, with logits for every draft."""
    drafter, own = plan.drafter, shapes.roles.get("drafter")
    if not isinstance(drafter, OneRunDrafter) or own is None:
        return []
    found = []
    least, rows = max(drafter.least_rows, 2), drafter.num_logits(plan.tree)
    if own.widths and own.widths[-1] < least:
        found.append(f"shapes.roles.drafter.widths ends with {own.widths[-1]}; a run needs {least}")
    if own.verify_width < rows:
        found.append(f"shapes.roles.drafter.verify_width is {own.verify_width}; a proposal needs {rows}")
    return found


def _size_problems(shapes: ShapePlan, roles: Mapping[str, Role]) -> list[str]:
    """Caches and buffers that are too large for any machine."""
    found = []
    for name, role in roles.items():
        sizes = _largest_sizes(shapes.batch, shapes.roles[name])
        sizes[ports.MASK_SLOTS] = sizes[ports.NUM_TOKENS] + role.mask_extra
        kept = [state for state in (*role.states, *role.cross_states) if state.shared_with is None]
        buffers = {"caches": sum(_cache_bytes(state, sizes) for state in kept)}
        for port in (*role.inputs, *role.outputs):
            count = _NUMBER
            for dim in port.shape:
                count *= dim if isinstance(dim, int) else sizes.get(dim, 1)
            buffers[port.name] = count
        found += [
            f"roles.{name}: {what} of {size} bytes do not fit; at most {MAX_BUFFER_BYTES} do"
            for what, size in buffers.items()
            if size > MAX_BUFFER_BYTES
        ]
    return found


def _largest_sizes(batch: int, shapes: RoleShapes) -> dict[str, int]:
    """The largest size of each named dimension of a role."""
    return {
        ports.BATCH: batch,
        ports.NUM_TOKENS: max(shapes.widths, default=1),
        ports.NUM_LOGITS: max(shapes.verify_width, 1),
        ports.KV_CAPACITY: max(shapes.kv_capacities, default=1),
        ports.SOURCE_LENGTH: max(shapes.source_lengths, default=1),
        ports.CANVAS_LENGTH: max(shapes.canvas_lengths, default=1),
    } | {ports.window_capacity(window): slots for window, slots in shapes.window_capacities.items()}


def _cache_bytes(state: LayerState, sizes: Mapping[str, int]) -> int:
    return sizes[ports.BATCH] * sizes.get(state.capacity, 1) * state.bytes_per_token
