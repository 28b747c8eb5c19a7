"""Outputs that no loop reads, taken out of a graph, and the ports that are left."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from ptgc.spec.manifest import Role

_UNREAD = ("top_logits", "top_ids")
"""Greedy decoding reads next_ids; top-k over the vocabulary is not free."""


def drop_unread_outputs(graph: ir.Graph) -> None:
    """Take them off the graph; what computes them goes with the nodes that nothing uses."""
    for value in list(graph.outputs):
        if value.name in _UNREAD:
            graph.outputs.remove(value)


def ports_of(graph: ir.Graph, role: Role) -> Role:
    """The role with the ports that the lowered graph still has."""
    names = {value.name for value in (*graph.inputs, *graph.outputs)}
    return replace(
        role,
        inputs=tuple(port for port in role.inputs if port.name in names),
        outputs=tuple(port for port in role.outputs if port.name in names),
        commit_graph=None,
    )
