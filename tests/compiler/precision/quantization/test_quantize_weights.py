"""Matrices of a graph, quantised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from ptgc.compiler.precision.quantization.quantize_weights import QuantizeWeightsPass
from ptgc.compiler.precision.quantization.quantizer import Quantizer
from ptgc.compiler.precision.quantization.weight_format import WeightFormat
from ptgc.graphs.linear import linears
from tests.compiler.precision.quantization.matrices import on_grid, restored
from tests.compiler.prepared import prepared_model


@pytest.mark.parametrize("weight_format", [WeightFormat(4, (32,)), WeightFormat(8, ())])
def test_calibration_leaves_matrices_on_a_grid_as_they_are(weight_format: WeightFormat, tmp_path: Path) -> None:
    model, _ = prepared_model("llama", tmp_path)
    group = 32 if weight_format.bits == 4 else None
    wanted = {}
    moments = {}
    for index, linear in enumerate(linears(model.graph)):
        assert linear.weight.const_value is not None
        shape = linear.weight.const_value.shape.numpy()
        rows, columns = reversed(shape) if linear.transposed else shape
        matrix = on_grid(weight_format.bits, group or rows, rows=rows, columns=columns)
        given = np.ascontiguousarray(matrix.T) if linear.transposed else matrix
        linear.weight.const_value = ir.tensor(given, name=linear.weight.name)
        wanted[str(linear.weight.name)] = matrix
        inputs = np.random.default_rng(index).normal(size=(3 * rows, rows)).astype(np.float32)
        moments[linear.input_name] = inputs.T @ inputs
    QuantizeWeightsPass(weight_format, Quantizer.GPTQ, [moments])(model)
    values = {name: value.const_value.numpy() for name, value in model.graph.initializers.items() if value.const_value}
    for name, matrix in wanted.items():
        found = restored(values[f"{name}.quantized"], values[f"{name}.scales"])
        np.testing.assert_allclose(found, matrix, rtol=1e-5, atol=1e-7, err_msg=name)
