"""NameNodesPass: names every node after the module that it came from."""

from __future__ import annotations

import onnx_ir as ir

from ptgc.graphs.piece import MODULE_KEY


class NameNodesPass(ir.passes.InPlacePass):
    """Names become `module.path/Operator_3`, so that a compiler's messages and layers show their origin.

    Ensures: no two nodes have one name.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        modified = False
        for number, node in enumerate(model.graph):
            path = node.metadata_props.get(MODULE_KEY) or "graph"
            name = f"{path}/{node.op_type}_{number}"
            modified = modified or node.name != name
            node.name = name
        return ir.passes.PassResult(model, modified)
