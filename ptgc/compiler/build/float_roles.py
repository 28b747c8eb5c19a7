"""Roles in a floating-point type other than the exported one."""

from __future__ import annotations

from dataclasses import replace

from ptgc.spec.ports import DType, Port, has_models_type
from ptgc.spec.role import Role

_HALF = (DType.FLOAT16, DType.BFLOAT16)
_FLOATS = (DType.FLOAT32, *_HALF)


def is_half(role: Role) -> bool:
    """Whether any port or cache is of half precision."""
    found = {port.dtype for port in (*role.inputs, *role.outputs)}
    found |= {state.dtype for state in (*role.states, *role.cross_states)}
    return not found.isdisjoint(_HALF)


def in_type(role: Role, dtype: DType) -> Role:
    """The role after SetHalfTypePass."""

    def typed(port: Port) -> Port:
        has_type = port.dtype in _FLOATS and has_models_type(port.name, len(port.shape))
        return replace(port, dtype=dtype) if has_type else port

    return replace(
        role,
        inputs=tuple(typed(port) for port in role.inputs),
        outputs=tuple(typed(port) for port in role.outputs),
        states=tuple(replace(state, dtype=dtype) for state in role.states),
        cross_states=tuple(replace(state, dtype=dtype) for state in role.cross_states),
    )


def with_cache_in(role: Role, dtype: DType) -> Role:
    """The role with caches of that type."""
    return replace(role, states=tuple(replace(state, dtype=dtype) for state in role.states))


def in_float32(role: Role) -> Role:
    """The role as the CPU computes it, which has no half-precision matrix products."""

    def widen(port: Port) -> Port:
        return replace(port, dtype=DType.FLOAT32) if port.dtype in _HALF else port

    return replace(
        role,
        inputs=tuple(widen(port) for port in role.inputs),
        outputs=tuple(widen(port) for port in role.outputs),
        states=tuple(replace(s, dtype=DType.FLOAT32) if s.dtype in _HALF else s for s in role.states),
        cross_states=tuple(replace(s, dtype=DType.FLOAT32) if s.dtype in _HALF else s for s in role.cross_states),
    )
