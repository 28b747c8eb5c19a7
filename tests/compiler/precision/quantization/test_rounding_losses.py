"""The loss from rounding inputs."""

from __future__ import annotations

import onnx_ir as ir

from ptgc.compiler.precision.quantization.activation_ranges import activation_ranges
from ptgc.compiler.precision.quantization.float8 import LARGEST
from ptgc.compiler.precision.quantization.rounding_losses import rounding_losses
from tests.compiler.prepared import TEXT, normalized, role_of, traced


def test_rows_beside_an_outlier_lose_most() -> None:
    model, role = normalized("llama"), role_of(traced("llama"))
    ranges = activation_ranges(model, role, TEXT)
    fine = {name: float(one.max()) / 127 for name, one in ranges.items()}
    coarse = {name: 100 * scale for name, scale in fine.items()}  # as if one number were a hundred times as large
    lost = rounding_losses(model, role, TEXT, fine, ir.DataType.INT8)
    assert set(lost) == set(fine)
    more = rounding_losses(model, role, TEXT, coarse, ir.DataType.INT8)
    floats = {name: scale * 127 / LARGEST for name, scale in coarse.items()}
    in_float8 = rounding_losses(model, role, TEXT, floats, ir.DataType.FLOAT8E4M3FN)
    for name, one in lost.items():
        assert 0 < one < 0.01 < 0.1 < more[name] <= 1.01
        assert 0 < in_float8[name] < 0.01  # steps are relative to each number
