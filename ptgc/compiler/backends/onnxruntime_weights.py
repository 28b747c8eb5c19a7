"""Weights in the format of ONNX Runtime's block-quantised operators, on every device."""

from __future__ import annotations

import onnx_ir as ir

from ptgc.compiler.backends.base import Preparation
from ptgc.compiler.lowering.remaining_ports import remaining_ports
from ptgc.compiler.precision.quantization.quantize_weights import QuantizeWeightsPass
from ptgc.compiler.precision.quantization.second_moments import second_moments
from ptgc.compiler.precision.quantization.vocabulary_matrices import vocabulary_formats
from ptgc.compiler.precision.quantization.weight_format import WeightFormat
from ptgc.spec.role import Role

# Larger blocks lose more than their bytes are worth, smaller ones gain less (docs/precision.md). Besides, MatMulNBits
# sums a single row in larger ones in another order than several, so drafts would change the text (onnxruntime 1.31.1).
FORMATS = {"int8": WeightFormat(8, (64, 32, 16)), "int4": WeightFormat(4, (32, 16))}
"""Block formats by precision; other precisions have none."""


def rounds_weights(task: Preparation) -> bool:
    """Whether any matrix of the role is rounded to integers."""
    return any(precision in FORMATS for precision in (task.precision, *task.parts.values()))


def quantize_weights(model: ir.Model, role: Role, task: Preparation) -> None:
    """Replace matrices of a float32 graph by DequantizeLinear over blocks, embedding and head as in `task.parts`."""
    parts = {part: FORMATS.get(precision) for part, precision in task.parts.items()}
    text = task.calibration if task.rounding.makes_up else ()
    moments = second_moments(model, remaining_ports(model.graph, role), text)
    others = vocabulary_formats(model.graph, role, parts)
    QuantizeWeightsPass(FORMATS.get(task.precision), task.rounding, moments, others)(model)
