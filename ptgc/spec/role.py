"""A role: one model of a bundle, its ports and its states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ptgc.spec.kv_cache import LayerState
from ptgc.spec.ports import Port


@dataclass(frozen=True)
class Role:
    """One model of a bundle and the graph that computes it."""

    graph: str
    """The ONNX file, relative to the manifest."""
    inputs: tuple[Port, ...]
    """Ports that come in, states apart."""
    outputs: tuple[Port, ...]
    """Ports that go out, states apart."""
    states: tuple[LayerState, ...] = ()
    """The KV cache, layer by layer."""
    cross_states: tuple[LayerState, ...] = ()
    """What each layer attends to of an encoder's output, layer by layer; written once for each text."""
    context_length: int | None = None
    """Positions that this model was made for, where they differ from the bundle's."""
    commit_graph: str | None = None
    """The ONNX file that moves accepted rows together (port `keep_rows`); only token trees need it."""
    device: str = "default"
    """Where it runs; one device per role in this schema."""

    def to_json(self) -> dict[str, Any]:
        """This role as the manifest writes it."""
        data: dict[str, Any] = {"graph": self.graph}
        if self.commit_graph is not None:
            data["commit_graph"] = self.commit_graph
        return data | {
            "device": self.device,
            "ports": {
                "inputs": [port.to_json() for port in self.inputs],
                "outputs": [port.to_json() for port in self.outputs],
            },
            "states": [state.to_json() for state in self.states],
            "cross_states": [state.to_json() for state in self.cross_states],
            "context_length": self.context_length,
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> Role:
        """A role from the manifest's form."""
        return Role(
            graph=data["graph"],
            commit_graph=data.get("commit_graph"),
            device=data.get("device", "default"),
            inputs=tuple(Port.from_json(port) for port in data["ports"]["inputs"]),
            outputs=tuple(Port.from_json(port) for port in data["ports"]["outputs"]),
            states=tuple(LayerState.from_json(state) for state in data["states"]),
            cross_states=tuple(LayerState.from_json(state) for state in data.get("cross_states", ())),
            context_length=data.get("context_length"),
        )
