"""Whether what a manifest and a build say fits together: lengths that a loop needs, tokens, sizes of buffers."""

from __future__ import annotations

from collections.abc import Mapping

from ptgc.spec import ports
from ptgc.spec.kv_cache import LayerState, StateKind
from ptgc.spec.limits import MAX_BUFFER_BYTES
from ptgc.spec.loop import Loop
from ptgc.spec.model_facts import ModelFacts, foreign_tokens
from ptgc.spec.plan import DecodePlan
from ptgc.spec.role import Role
from ptgc.spec.role_ports import role_problems
from ptgc.spec.shapes import ShapePlan

_NUMBER = 8  # bytes of a token, a position or a length


def plan_problems(plan: DecodePlan, model: ModelFacts, roles: Mapping[str, Role]) -> list[str]:
    """What contradicts itself in a manifest."""
    found = foreign_tokens(_plan_tokens(plan), model.vocab_size)
    found += role_problems(plan, roles)
    if plan.loop is Loop.SPECULATIVE and "encoder" in roles and model.decoder_start_token_id is None:
        found.append("model.decoder_start_token_id is null; texts behind an encoder start with it")
    if "target" in roles:
        sizes = [port.shape[-1] for port in roles["target"].outputs if port.name == "logits"]
        found += [
            f"roles.target gives logits of {size} tokens; model.vocab_size is {model.vocab_size}"
            for size in sizes
            if size != model.vocab_size
        ]
    return found


def _plan_tokens(plan: DecodePlan) -> list[tuple[str, int]]:
    """The tokens that the policies name, all of the model's own vocabulary."""
    found = []
    if plan.canvas is not None:
        found.append(("plan.canvas.mask_token_id", plan.canvas.mask_token_id))
    if plan.one_shot is not None:
        found.append(("plan.one_shot.blank_token_id", plan.one_shot.blank_token_id))
    if plan.edit is not None:
        names = ("placeholder_token_id", "bos_token_id", "eos_token_id", "pad_token_id")
        found += [(f"plan.edit.{name}", getattr(plan.edit, name)) for name in names]
    return found


def shape_problems(
    plan: DecodePlan, model: ModelFacts, shapes: ShapePlan, roles: Mapping[str, Role], before: Mapping[str, Role]
) -> list[str]:
    """What of a build does not fit its loop, or its bundle.

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
    if "encoder" in roles and not shapes.source_lengths:
        found.append("shapes.source_lengths is empty; the encoder needs one")
    if plan.loop is Loop.SPECULATIVE:
        found += _width_problems(plan, shapes) + _capacity_problems(shapes)
        found += _window_problems(shapes, roles)
        if shapes.source_lengths and "encoder" not in roles:
            found.append("shapes.source_lengths is not empty, and there is no encoder")
    else:
        found += _canvas_problems(plan, shapes)
    return found or _size_problems(shapes, roles)


def _width_problems(plan: DecodePlan, shapes: ShapePlan) -> list[str]:
    found = []
    if not shapes.widths or shapes.widths[0] != 1:
        found.append("shapes.widths must ascend from 1")
    elif not 1 <= shapes.verify_width <= shapes.widths[-1]:
        found.append(f"shapes.verify_width is {shapes.verify_width}; it must be from 1 to {shapes.widths[-1]}")
    elif plan.tree.num_nodes > shapes.verify_width:
        found.append(f"shapes.verify_width is {shapes.verify_width}; plan.tree has {plan.tree.num_nodes} nodes")
    return found


def _capacity_problems(shapes: ShapePlan) -> list[str]:
    widest = shapes.widths[-1] if shapes.widths else 0
    if not shapes.kv_capacities:
        return ["shapes.kv_capacities is empty; the loop needs a cache"]
    found = []
    if shapes.kv_capacities[-1] < shapes.max_length + widest:
        found.append(f"shapes.kv_capacities must reach max_length and the largest width, {shapes.max_length + widest}")
    if shapes.kv_capacities[0] < widest:
        found.append(f"shapes.kv_capacities must hold the largest width, {widest}")
    return found


def _window_problems(shapes: ShapePlan, roles: Mapping[str, Role]) -> list[str]:
    """Caches that slide hold what the widest window sees and the widest round, or are as large as the others."""
    states = [state for role in roles.values() for state in role.states if state.kind is StateKind.WINDOW]
    windows = {state.window for state in states if state.window is not None}
    found = [
        f"shapes.window_capacities lacks the window of {window} tokens"
        for window in sorted(windows - shapes.window_capacities.keys())
    ]
    if shapes.window_capacities and shapes.widths and shapes.kv_capacities:
        least = min(max(shapes.window_capacities) - 1 + shapes.widths[-1], shapes.kv_capacities[-1])
        found += [
            f"shapes.window_capacities.{window} is {capacity}; it must be at least {least}"
            for window, capacity in shapes.window_capacities.items()
            if capacity < least
        ]
    return found


def _canvas_problems(plan: DecodePlan, shapes: ShapePlan) -> list[str]:
    longest = shapes.canvas_lengths[-1] if shapes.canvas_lengths else 0
    if not longest:
        return ["shapes.canvas_lengths is empty; the loop needs one"]
    found = []
    if plan.one_shot is not None:
        rows = [plan.one_shot.upsampling * size for size in shapes.source_lengths]
        if tuple(rows) != shapes.canvas_lengths:
            found.append(f"shapes.canvas_lengths must be source_lengths times {plan.one_shot.upsampling}")
    elif longest < shapes.max_length:
        found.append(f"shapes.canvas_lengths ends with {longest}; texts have up to {shapes.max_length} tokens")
    if plan.canvas is not None and plan.canvas.block_length > longest:
        found.append(f"plan.canvas.block_length is {plan.canvas.block_length}; the largest canvas is {longest}")
    return found


def _size_problems(shapes: ShapePlan, roles: Mapping[str, Role]) -> list[str]:
    """Caches and buffers that no machine has the memory for."""
    sizes = {
        ports.BATCH: shapes.batch,
        ports.NUM_TOKENS: max(shapes.widths, default=1),
        ports.NUM_LOGITS: max(shapes.verify_width, 1),
        ports.KV_CAPACITY: max(shapes.kv_capacities, default=1),
        ports.SOURCE_LENGTH: max(shapes.source_lengths, default=1),
        ports.CANVAS_LENGTH: max(shapes.canvas_lengths, default=1),
    } | {ports.window_capacity(window): slots for window, slots in shapes.window_capacities.items()}
    found = []
    for name, role in roles.items():
        cache = sum(_cache_bytes(state, sizes) for state in (*role.states, *role.cross_states))
        buffers = {"caches": cache}
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


def _cache_bytes(state: LayerState, sizes: Mapping[str, int]) -> int:
    return sizes[ports.BATCH] * sizes.get(state.capacity, 1) * state.bytes_per_token
