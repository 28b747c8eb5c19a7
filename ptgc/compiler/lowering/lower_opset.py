"""LowerOpsetPass: turns a graph into one of an older opset."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from ptgc.errors import BuildError
from ptgc.graphs.piece import MODULE_KEY
from ptgc.graphs.values import add_initializer


class LowerOpsetPass(ir.passes.InPlacePass):
    """Declares an older opset, after checking that every node is valid in it.

    Operators that only gained types since then need no change. Before opset 21, QuantizeLinear had no `output_dtype`
    and took its type from a zero point.

    Requires: a graph of the standard domain, without subgraphs, whose newer operators are written out.
    Ensures: every operator, attribute and number of inputs is known to the opset.

    Args:
        opset: The opset version.

    Raises:
        BuildError: The opset does not support a node; the error names it.
    """

    def __init__(self, opset: int) -> None:
        super().__init__()
        self._opset = opset

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        graph = model.graph
        if graph.opset_imports[""] <= self._opset:
            return ir.passes.PassResult(model, modified=False)
        for node in graph:
            if node.op_type == "QuantizeLinear":
                _name_type_by_zero_point(graph, node)
            problem = self._problem(node)
            if problem is not None:
                module = node.metadata_props.get(MODULE_KEY) or "the graph"
                raise BuildError(
                    f"{node.op_type} in {module} cannot be prepared portably: opset {self._opset} {problem}.",
                    "Build with --lowering native, which needs TensorRT 10.15 or newer, or export without it.",
                )
        graph.opset_imports[""] = self._opset
        return ir.passes.PassResult(model, modified=True)

    def _problem(self, node: ir.Node) -> str | None:
        """What the opset lacks to support a node; None if nothing."""
        try:
            schema = onnx.defs.get_schema(node.op_type, self._opset, node.domain)
        except onnx.defs.SchemaError:
            return "has no such operator"
        unknown = sorted(set(node.attributes) - set(schema.attributes))
        if unknown:
            return f"has it without {', '.join(unknown)}"
        return f"has it with {schema.max_input} inputs at most" if len(node.inputs) > schema.max_input else None


def _name_type_by_zero_point(graph: ir.Graph, node: ir.Node) -> None:
    attribute = node.attributes.pop("output_dtype", None)
    if attribute is None:
        return
    dtype = ir.DataType(attribute.as_int())
    zero = add_initializer(graph, f"zero.{dtype.name.lower()}", np.zeros((), dtype.numpy()))
    node.resize_inputs(3)
    node.replace_input_with(2, zero)
