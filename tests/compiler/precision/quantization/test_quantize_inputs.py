"""Rounding the inputs of quantised matrices."""

from __future__ import annotations

import onnx_ir as ir

from ptgc.compiler.lowering.set_half_type import SetHalfTypePass
from ptgc.compiler.precision.quantization.quantize_inputs import QuantizeInputsPass
from ptgc.compiler.precision.quantization.quantize_weights import QuantizeWeightsPass
from ptgc.compiler.precision.quantization.weight_format import WeightFormat
from ptgc.graphs.linear import linears
from tests.compiler.prepared import LINEAR_LAYERS, normalized


def test_an_input_is_rounded_once_for_all_layers_that_read_it() -> None:
    model = normalized("llama")
    scales = dict.fromkeys((linear.input_name for linear in linears(model.graph)), 0.1)
    QuantizeWeightsPass(WeightFormat(8, ()))(model)
    quantize = QuantizeInputsPass(scales, ir.DataType.INT8)
    assert quantize(model).modified and not quantize(model).modified
    nodes = [node for node in model.graph if node.op_type == "QuantizeLinear"]
    assert len(nodes) == len(scales) < LINEAR_LAYERS
    assert sum(len(node.outputs[0].uses()) for node in nodes) == len(nodes)
    half = SetHalfTypePass(ir.DataType.FLOAT16)
    assert half(model).modified and not half(model).modified
    for node in nodes:
        assert {value.dtype for value in node.inputs if value is not None} == {ir.DataType.FLOAT16}
        assert node.outputs[0].dtype is ir.DataType.INT8
