"""The ports of a role that its lowered graph still has."""

from __future__ import annotations

from dataclasses import replace

import onnx_ir as ir

from ptgc.spec.role import Role


def remaining_ports(graph: ir.Graph, role: Role) -> Role:
    """The role with the ports that the lowered graph still has."""
    names = {value.name for value in (*graph.inputs, *graph.outputs)}
    return replace(
        role,
        inputs=tuple(port for port in role.inputs if port.name in names),
        outputs=tuple(port for port in role.outputs if port.name in names),
    )
