"""SetFloatTypePass: the same graph in another floating-point type."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

HALF_TYPES = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16})


class SetFloatTypePass(ir.passes.InPlacePass):
    """Every half-precision weight, value and cast becomes float32.

    Checkpoints are exported in their own type; a backend without kernels for that type computes in float32.
    Ensures: no float16 or bfloat16 is left.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Run on the main graph."""
        modified = False
        graph = model.graph
        for value in graph.initializers.values():
            if value.const_value is not None and value.const_value.dtype in HALF_TYPES:
                value.const_value = _widened(value.const_value)
                value.dtype = ir.DataType.FLOAT
                modified = True
        for value in (*graph.inputs, *(output for node in graph for output in node.outputs)):
            if value.dtype in HALF_TYPES:
                value.dtype = ir.DataType.FLOAT
                modified = True
        for node in graph:
            modified = _widen_attributes(node) or modified
        return ir.passes.PassResult(model, modified)


def _widened(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    def build() -> ir.TensorProtocol:
        return ir.tensor(tensor.numpy().astype(np.float32), name=tensor.name)

    return ir.LazyTensor(build, ir.DataType.FLOAT, ir.Shape(tensor.shape.numpy()), name=tensor.name)


def _widen_attributes(node: ir.Node) -> bool:
    """Widen casts to half precision, and half-precision constants."""
    modified = False
    to = node.attributes.get("to")
    if node.op_type == "Cast" and to is not None and ir.DataType(to.as_int()) in HALF_TYPES:
        node.attributes["to"] = ir.AttrInt64("to", ir.DataType.FLOAT)
        modified = True
    value = node.attributes.get("value")
    if value is not None and value.type is ir.AttributeType.TENSOR and value.as_tensor().dtype in HALF_TYPES:
        widened = ir.tensor(value.as_tensor().numpy().astype(np.float32))
        node.attributes["value"] = ir.AttrTensor("value", widened)
        modified = True
    return modified
