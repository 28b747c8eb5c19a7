"""DropUnreadOutputsPass: outputs of the contract that no engine of a build needs."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from ptgc.spec.role import Role

_UNREAD = frozenset({"top_logits", "top_ids"})


class DropUnreadOutputsPass(ir.passes.InPlacePass):
    """Drops the best candidates: the runtime reads `next_ids` or `logits`, and TopK over a vocabulary is not free.

    Ensures: `remaining_ports` says what is left.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        outputs = model.graph.outputs
        unread = [value for value in outputs if value.name in _UNREAD]
        for value in unread:
            outputs.remove(value)
        return ir.passes.PassResult(model, bool(unread))


def remaining_ports(graph: ir.Graph, role: Role) -> Role:
    """The role with the ports that the lowered graph still has."""
    names = {value.name for value in (*graph.inputs, *graph.outputs)}
    return replace(
        role,
        inputs=tuple(port for port in role.inputs if port.name in names),
        outputs=tuple(port for port in role.outputs if port.name in names),
        commit_graph=None,
    )
