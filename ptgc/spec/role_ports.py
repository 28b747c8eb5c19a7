"""The roles of each loop, and the ports of each role."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ptgc.spec import ports
from ptgc.spec.attention import AttentionKind
from ptgc.spec.canvas import THRESHOLDS, CanvasCache, CanvasPlan
from ptgc.spec.drafter import MaskDrafter, OneRunDrafter
from ptgc.spec.edit import EditStart
from ptgc.spec.kv_cache import StateKind
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan
from ptgc.spec.ports import DType, Port
from ptgc.spec.role import Role

_HIDDEN_STATES = ports.encoder_hidden_states(1, DType.FLOAT32)
_LOGITS = ports.logits(1, DType.FLOAT32)
_KINDS = ", ".join(kind.value for kind in AttentionKind)
_MODEL_TYPES = (DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16)


@dataclass(frozen=True)
class RolePorts:
    """The ports of one role. Ports whose type and size are the model's are listed as float32 with size 1."""

    inputs: tuple[Port, ...]
    """Allowed inputs. The first is required; lowering may remove the others."""
    outputs: tuple[Port, ...]
    """Allowed outputs."""
    needed: tuple[Port, ...]
    """Outputs that the loop reads."""
    has_states: bool = False
    """Whether it may have a cache."""


_CAUSAL = RolePorts(
    (*ports.CAUSAL_INPUTS, ports.WINDOW_OFFSET, ports.ENCODER_ATTENTION_MASK),
    (_LOGITS, ports.NEXT_IDS, ports.hidden_states(1, DType.FLOAT32)),
    (ports.NEXT_IDS,),
    has_states=True,
)
_STATES = ports.hidden_states(1, DType.FLOAT32)
_TAPPED = ports.tapped(_STATES)
_CARRIED = ports.carried_states(1, DType.FLOAT32)
_READER = RolePorts((ports.SOURCE_IDS, ports.ENCODER_ATTENTION_MASK), (_HIDDEN_STATES,), (_HIDDEN_STATES,))
_WRITTEN = (ports.OUTPUT_IDS, ports.OUTPUT_LENGTHS)
_OPERATION = RolePorts((ports.CANVAS_IDS, ports.LENGTHS), _WRITTEN, _WRITTEN)
_READING_OPERATION = RolePorts((*_OPERATION.inputs, _HIDDEN_STATES, ports.ENCODER_ATTENTION_MASK), _WRITTEN, _WRITTEN)
_TEXT_DENOISER = RolePorts(
    (ports.CANVAS_IDS, ports.LENGTHS, ports.TIME),
    (),
    (),
)
"""A model that reads whole texts; its policy's inputs and outputs are not listed."""
_ROUND_DENOISER = RolePorts(
    (*ports.CAUSAL_INPUTS, ports.WINDOW_OFFSET, ports.COLUMN_IDS),
    (),
    (),
    has_states=True,
)
"""The same for a language model, which reads rows over a cache."""
_STATE_READERS = {
    "heads": RolePorts((_TAPPED, ports.LAST_IDS), (ports.draft_ids(1),), (ports.draft_ids(1),)),
    "drafter": RolePorts(
        (*ports.CAUSAL_INPUTS, _STATES, ports.WINDOW_OFFSET),
        (_LOGITS, ports.NEXT_IDS, _CARRIED),
        (ports.NEXT_IDS, _CARRIED),
        has_states=True,
    ),
}
"""Roles of drafters that read the target's hidden states."""
_ONE_RUN_READERS = {
    "drafter": RolePorts(
        _STATE_READERS["drafter"].inputs, (_LOGITS, ports.NEXT_IDS), (ports.NEXT_IDS,), has_states=True
    )
}
"""The same for those that draft everything in one run, and never read states of their own."""
_ROLES: Mapping[Loop, Mapping[str, RolePorts]] = {
    Loop.SPECULATIVE: {
        "encoder": RolePorts(_READER.inputs, (), (), has_states=True),
        "target": _CAUSAL,
    },
    Loop.CANVAS: {},
    Loop.ONE_SHOT: {
        "encoder": _READER,
        "decoder": RolePorts((_HIDDEN_STATES, ports.ENCODER_ATTENTION_MASK), _WRITTEN, _WRITTEN),
    },
    Loop.EDIT: {"encoder": _READER},
}


def roles_of(plan: DecodePlan, *, has_encoder: bool, keeps_states: bool = False) -> dict[str, RolePorts]:
    """The roles that a plan runs, an encoder first.

    Args:
        plan: The loop and its policies.
        has_encoder: Whether there is an encoder, for loops in which it is optional.
        keeps_states: Whether the denoiser, if there is one, has a cache.
    """
    known = dict(_ROLES[plan.loop])
    reads_prompt = plan.loop is Loop.SPECULATIVE or (plan.edit is not None and plan.edit.start is EditStart.SOURCE)
    if reads_prompt and not has_encoder:
        del known["encoder"]
    if plan.loop is Loop.SPECULATIVE:
        drafting = _ONE_RUN_READERS if isinstance(plan.drafter, OneRunDrafter) else _STATE_READERS
        drafting = drafting if plan.drafter.taps else {}
        known |= {role: drafting.get(role, _CAUSAL) for role in plan.drafter.roles}
        if plan.drafter.num_top_ids:
            top_ids = ports.top_ids(plan.drafter.num_top_ids)
            known["target"] = replace(_CAUSAL, outputs=(*_CAUSAL.outputs, top_ids), needed=(*_CAUSAL.needed, top_ids))
    if plan.canvas is not None:
        reads_rounds = _reads_rounds(plan.canvas, keeps_states=keeps_states)
        denoiser = _ROUND_DENOISER if reads_rounds else _TEXT_DENOISER
        inputs, outputs = (made(plan.canvas, columns=reads_rounds) for made in (policy_inputs, policy_outputs))
        needed = tuple(port for port in outputs if port.name != ports.CONFIDENCE.name)
        known["denoiser"] = replace(denoiser, inputs=(*denoiser.inputs, *inputs), outputs=outputs, needed=needed)
    if plan.edit is not None:
        known |= dict.fromkeys(plan.edit.operations, _READING_OPERATION if "encoder" in known else _OPERATION)
    return known


def _reads_rounds(plan: CanvasPlan, *, keeps_states: bool) -> bool:
    """Whether the denoiser is a language model, which reads rows over a cache."""
    return keeps_states or plan.cache is not CanvasCache.NONE


def policy_inputs(plan: CanvasPlan, *, columns: bool) -> tuple[Port, ...]:
    """The inputs of a denoiser that say which positions it may fill, and how many.

    Args:
        plan: How it chooses.
        columns: Whether it decides the tokens of columns, as a language model does.
    """
    policy = plan.policy
    found = [ports.COLUMN_MASK if columns else ports.CANVAS_MASK, ports.STEP]
    if policy.kind in THRESHOLDS:
        found.append(ports.THRESHOLD)
    if policy.sampled:
        found.append(ports.TEMPERATURE)
    if policy.draws:
        found.append(ports.COLUMN_UNIFORMS if columns else ports.UNIFORMS)
    return tuple(found)


def policy_outputs(plan: CanvasPlan, *, columns: bool) -> tuple[Port, ...]:
    """The outputs of a denoiser; see `policy_inputs`."""
    found = (ports.COLUMN_OUTPUT_IDS, ports.NUM_MASKED, ports.COLUMN_CONFIDENCE)
    drafts = (ports.COLUMN_CANDIDATE_IDS, ports.COLUMN_CANDIDATE_RANKS)
    if not columns:
        found = (ports.OUTPUT_IDS, ports.NUM_MASKED, ports.CONFIDENCE)
        drafts = (ports.CANDIDATE_IDS, ports.CANDIDATE_RANKS)
    return (*found, *drafts) if plan.num_draft_steps else found


def role_problems(plan: DecodePlan, roles: Mapping[str, Role]) -> list[str]:
    """The problems of the roles of a bundle or build: missing or unknown roles, their ports and their states."""
    keeps_states = "denoiser" in roles and bool(roles["denoiser"].states)
    known = roles_of(plan, has_encoder="encoder" in roles, keeps_states=keeps_states)
    found = [f"roles lacks '{name}'" for name in known if name not in roles]
    for name, role in roles.items():
        if name not in known:
            found.append(f"roles has '{name}', which strategy '{plan.strategy}' has no use for")
            continue
        found += _port_problems(f"roles.{name}", role, known[name])
        found += _state_problems(f"roles.{name}", role, known[name])
        found += _attention_problems(f"roles.{name}", role)
    reads_rounds = plan.canvas is not None and _reads_rounds(plan.canvas, keeps_states=keeps_states)
    if plan.canvas is not None and reads_rounds and "denoiser" in roles:
        cache = plan.canvas.cache.value
        if roles["denoiser"].attention is not AttentionKind.BLOCK:
            found.append(f"roles.denoiser.attention must be block, with states; plan.canvas.cache is {cache}")
        windows = [state.window for state in roles["denoiser"].states if state.kind is StateKind.WINDOW]
        if plan.canvas.approximates and windows:
            found.append(
                f"roles.denoiser has layers with sliding windows; plan.canvas.cache is {cache}, which has slots in "
                "another order"
            )
    elif plan.canvas is not None and plan.canvas.shift:
        found.append("plan.canvas.shift is true; a denoiser without states predicts each position by its own row")
    drafts_blocks = isinstance(plan.drafter, MaskDrafter) and bool(plan.drafter.taps)
    if drafts_blocks and "drafter" in roles and roles["drafter"].attention is not AttentionKind.BLOCK:
        found.append(f"roles.drafter.attention must be block, with states; plan.drafter.kind is {plan.drafter.kind}")
    shares = any(state.shared_with is not None for state in roles["drafter"].states) if "drafter" in roles else False
    if shares and isinstance(plan.drafter, OneRunDrafter):
        found.append(f"roles.drafter shares layers; a drafter of kind {plan.drafter.kind} cannot")
    if plan.loop is Loop.SPECULATIVE and "target" in roles:
        found += _cross_problems(roles, plan.drafter.roles)
        if roles["target"].attention is AttentionKind.CAUSAL and not plan.tree.is_chain:
            found.append("roles.target.attention is causal; plan.tree is no chain")
        found += _tap_problems(plan, roles)
    return found + _sharing_problems(roles)


def _port_problems(name: str, role: Role, wanted: RolePorts) -> list[str]:
    found = []
    for kind, given, known in (("inputs", role.inputs, wanted.inputs), ("outputs", role.outputs, wanted.outputs)):
        by_name = {port.name: port for port in known}
        names = [port.name for port in given]
        found += [f"{name}.ports.{kind} has '{one}' twice" for one in sorted({n for n in names if names.count(n) > 1})]
        for port in given:
            if port.name not in by_name:
                found.append(f"{name}.ports.{kind} has '{port.name[:48]}', which this role has not")
            elif not _is_like(port, by_name[port.name]):
                found.append(f"{name}.ports.{kind} gives '{port.name}' another type or shape than it has")
    needed = [("inputs", role.inputs, wanted.inputs[0]), *(("outputs", role.outputs, one) for one in wanted.needed)]
    for kind, given, port in needed:
        if all(one.name != port.name for one in given):
            found.append(f"{name}.ports.{kind} lacks '{port.name}'")
    return found


def _is_like(port: Port, wanted: Port) -> bool:
    """Whether a port matches what is wanted; type and last size may be the model's own."""
    own_type = wanted.dtype is DType.FLOAT32 and ports.has_models_type(wanted.name, len(wanted.shape))
    own_size = wanted.shape[-1] == 1 and wanted is not ports.LAST_IDS
    same = port.shape == wanted.shape if not own_size else port.shape[:-1] == wanted.shape[:-1]
    types = _MODEL_TYPES if own_type else (wanted.dtype,)
    return port.dtype in types and same and (not own_size or isinstance(port.shape[-1], int))


def _state_problems(name: str, role: Role, wanted: RolePorts) -> list[str]:
    if (role.states or role.cross_states) and not wanted.has_states:
        return [f"{name} has states, which nothing keeps"]
    found = []
    for field, states, kinds in (
        ("states", role.states, (StateKind.FULL, StateKind.WINDOW)),
        ("cross_states", role.cross_states, (StateKind.CROSS,)),
    ):
        for layer, state in enumerate(states):
            place = f"{name}.{field}[{layer}]"
            if state.kind not in kinds:
                found.append(f"{place} is of kind {state.kind.value}, which this place has not")
            if state.dtype not in _MODEL_TYPES:
                found.append(f"{place}.dtype is {state.dtype.value}; it must be a floating-point type")
            if state.kind is StateKind.WINDOW and state.window is None:
                found.append(f"{place}.window is null; it must be a number of tokens")
    return found


def _attention_problems(name: str, role: Role) -> list[str]:
    """A role has attention exactly if it has a cache."""
    if (role.attention is None) == bool(role.states):
        return [f"{name}.attention must {'be one of ' + _KINDS if role.states else 'be null'}"]
    if role.mask_extra and role.attention in (None, AttentionKind.CAUSAL):
        return [f"{name}.mask_extra is {role.mask_extra}; text in order has 0"]
    return []


def _tap_problems(plan: DecodePlan, roles: Mapping[str, Role]) -> list[str]:
    """A drafter must read what the target gives, carry on rows of the same size, and give a draft for every node."""
    given = {port.name: port for port in roles["target"].outputs}
    wanted = plan.learned.tree.num_nodes - 1
    found = []
    for name in plan.drafter.roles:
        role = roles.get(name)
        if role is None:
            continue
        for tap in plan.drafter.taps:
            read = (port for port in (*role.inputs, *role.outputs) if port.name in (tap, _CARRIED.name))
            kinds = {(port.dtype, port.shape[-1]) for port in read}
            if all(port.name != tap for port in role.inputs):
                found.append(f"roles.{name} does not read {tap}")
            elif tap not in given:
                found.append(f"roles.{name} reads {tap}, which roles.target does not give")
            elif kinds != {(given[tap].dtype, given[tap].shape[-1])}:
                found.append(f"roles.{name} reads {tap} of another type or size than roles.target gives")
        sizes = [port.shape[-1] for port in role.outputs if port.name == "draft_ids"]
        found += [f"roles.{name} gives {size} drafts; plan.tree has {wanted}" for size in sizes if size != wanted]
    return found


def _sharing_problems(roles: Mapping[str, Role]) -> list[str]:
    """A shared layer must name a layer of the same form that another role owns."""
    found = []
    for name, role in roles.items():
        found += [
            f"roles.{name}.cross_states[{layer}].shared_with must be null; sources have no cache of their own"
            for layer, state in enumerate(role.cross_states)
            if state.shared_with is not None
        ]
        for layer, state in enumerate(role.states):
            shared = state.shared_with
            if shared is None:
                continue
            place = f"roles.{name}.states[{layer}].shared_with"
            owner = f"layer {shared.layer} of '{shared.role[:48]}'"
            if shared.role == name or shared.role not in roles:
                found.append(f"{place} is {owner}, which is no other role")
            elif shared.layer >= len(roles[shared.role].states):
                found.append(f"{place} is {owner}, which has {len(roles[shared.role].states)} layers")
            elif roles[shared.role].states[shared.layer].shared_with is not None:
                found.append(f"{place} is {owner}, which shares another's cache itself")
            elif not state.may_share(roles[shared.role].states[shared.layer]):
                found.append(f"{place} is {owner}, whose cache has another kind, shape or type")
    return found


def _cross_problems(roles: Mapping[str, Role], drafting: Sequence[str]) -> list[str]:
    """A target must attend to an encoder exactly if there is one, and to exactly what it gives."""
    given = roles["encoder"].cross_states if "encoder" in roles else ()
    found = []
    if roles["target"].cross_states != given:
        found.append("roles.target.cross_states must be those of roles.encoder, and none without one")
    if "encoder" in roles and not given:
        found.append("roles.encoder.cross_states is empty; the target must attend to it")
    found += [
        f"roles.{name}.cross_states must be empty" for name in drafting if name in roles and roles[name].cross_states
    ]
    if "encoder" in roles and roles["encoder"].states:
        found.append("roles.encoder.states must be empty")
    return found
