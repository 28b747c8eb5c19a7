"""TidyPass: removes what PyTorch's exporter leaves behind."""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as common

from ptgc.graphs.piece import MODULE_KEY
from ptgc.spec.ports import IR_VERSION, OPSET

_SCOPES = "pkg.torch.onnx.name_scopes"
_NO_MODULE = "_empty_nn_module_stack_from_metadata_hook"  # PyTorch's module name for a bare input


class TidyPass(ir.passes.InPlacePass):
    """Keeps only the module path of a node's metadata, and drops unused nodes and weights.

    PyTorch writes stack traces and class names into every node, which takes megabytes and reveals local paths.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run on the whole model."""
        for node in ir.traversal.RecursiveGraphIterator(model.graph):
            path = module_path(node)
            node.metadata_props.clear()
            node.doc_string = None
            node.metadata_props[MODULE_KEY] = path
            for value in node.outputs:
                value.metadata_props.clear()
        for value in (*model.graph.inputs, *model.graph.initializers.values()):
            value.metadata_props.clear()
        model.graph.metadata_props.clear()
        model.metadata_props.clear()
        common.RemoveUnusedNodesPass()(model)
        model.functions.clear()
        model.graph.opset_imports.clear()
        model.graph.opset_imports[""] = OPSET
        model.ir_version = IR_VERSION
        model.producer_name, model.producer_version = "ptgc", ""
        model.graph.name = "graph"
        return ir.passes.PassResult(model, modified=True)


def module_path(node: ir.Node) -> str:
    """The path of the PyTorch module that a node came from; empty if there is none."""
    known = node.metadata_props.get(MODULE_KEY)
    if known is not None:
        return known
    scopes = node.metadata_props.get(_SCOPES)
    if scopes is None:
        return ""
    named = [part.strip(" '\"") for part in scopes.strip("[]").split(",")]
    modules = [name for name in named[:-1] if name and name != _NO_MODULE]  # the last one is the operation
    return modules[-1].removeprefix("model.") if modules else ""  # the wrapper's attribute for the model
