"""A role: one model of a bundle, its ports and its states."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from ptgc.spec.attention import AttentionKind
from ptgc.spec.fields import Count, FilePath, Range
from ptgc.spec.kv_cache import LayerState
from ptgc.spec.limits import MAX_CONTEXT_LENGTH, MAX_LENGTH, MAX_STATES
from ptgc.spec.ports import Port


@dataclass(frozen=True)
class Role:
    """One model of a bundle and the graph that computes it."""

    graph: FilePath
    """The ONNX file, relative to the manifest."""
    inputs: Annotated[tuple[Port, ...], Count(1, MAX_STATES)]
    """Input ports, without states."""
    outputs: Annotated[tuple[Port, ...], Count(0, MAX_STATES)]
    """Output ports, without states."""
    states: Annotated[tuple[LayerState, ...], Count(0, MAX_STATES)] = ()
    """The KV cache, layer by layer."""
    cross_states: Annotated[tuple[LayerState, ...], Count(0, MAX_STATES)] = ()
    """Keys and values of an encoder's output for each layer, written once per text."""
    context_length: Annotated[int, Range(1, MAX_CONTEXT_LENGTH)] | None = None
    """Positions that this model was made for, if they differ from the bundle's."""
    attention: AttentionKind | None = None
    """Which rows of a round may see each other; None without a mask."""
    mask_extra: Annotated[int, Range(0, MAX_LENGTH)] = 0
    """Slots that the mask covers in addition to a round's own: from earlier rounds, or behind this one."""
    device: str = "default"
    """The device that it runs on; one per role in this schema."""

    @property
    def dimensions(self) -> frozenset[str]:
        """The named sizes of its ports and states."""
        ports = {dim for port in (*self.inputs, *self.outputs) for dim in port.shape if isinstance(dim, str)}
        return frozenset(ports | {state.capacity for state in (*self.states, *self.cross_states)})

    @property
    def owners(self) -> frozenset[str]:
        """The roles whose layers it shares."""
        return frozenset(state.shared_with.role for state in self.states if state.shared_with is not None)

    def to_json(self) -> dict[str, Any]:
        """This role as the manifest writes it."""
        return {
            "graph": self.graph,
            "device": self.device,
            "attention": None if self.attention is None else self.attention.value,
            "mask_extra": self.mask_extra,
            "ports": {
                "inputs": [port.to_json() for port in self.inputs],
                "outputs": [port.to_json() for port in self.outputs],
            },
            "states": [state.to_json() for state in self.states],
            "cross_states": [state.to_json() for state in self.cross_states],
            "context_length": self.context_length,
        }

    @staticmethod
    def json_fields(data: Any) -> Any:
        """The fields from the manifest's form, which has the ports in an object of their own."""
        listed = data.get("ports") if isinstance(data, dict) else None
        return (
            {**data, **{k: listed[k] for k in ("inputs", "outputs") if k in listed}}
            if isinstance(listed, dict)
            else data
        )


def sharing_roles(name: str, roles: Mapping[str, Role]) -> frozenset[str]:
    """The roles that share layers with one, directly or through others; itself included."""
    found = frozenset({name})
    while True:
        owners = {owner for other in found & roles.keys() for owner in roles[other].owners}
        more = found | (owners & roles.keys()) | {other for other, role in roles.items() if role.owners & found}
        if more == found:
            return found
        found = more
