"""Quantises a role's float32 graph: weights alone, or weights and activations.

Blocks are rounded to the nearest by onnxruntime's own kernel. The other quantisers are a few lines of numpy over
constants, because those of other projects need PyTorch, or take the graph as protocol buffers and calibrate in their
own way (docs/precision.md lists those considered).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ptgc.compiler.precision.quantization.activation_ranges import activation_ranges
from ptgc.compiler.precision.quantization.awq import scale_channels
from ptgc.compiler.precision.quantization.quantize_experts import QuantizeExpertsPass
from ptgc.compiler.precision.quantization.quantize_inputs import QuantizeInputsPass
from ptgc.compiler.precision.quantization.quantize_weights import QuantizeWeightsPass
from ptgc.compiler.precision.quantization.quantizer import Quantizer
from ptgc.compiler.precision.quantization.round_experts import round_experts
from ptgc.compiler.precision.quantization.rounding_losses import rounding_losses
from ptgc.compiler.precision.quantization.second_moments import second_moments
from ptgc.compiler.precision.quantization.smooth_inputs import SmoothInputsPass, smoothing_factors
from ptgc.compiler.precision.quantization.vocabulary_matrices import head_layers
from ptgc.compiler.precision.quantization.weight_format import WeightFormat
from ptgc.spec.role import Role

# The largest share of an input's energy that rounding may lose (rounding_losses). In SmolLM2-135M-Instruct at int8, 17
# of the 30 smoothed inputs of `down_proj` lose more than this. With a limit of 0.05, which 6 of them exceed, the
# divergence was half as large again.
_MOST_LOST = 0.01
_LARGEST = {ir.DataType.INT8: 127.0, ir.DataType.FLOAT8E4M3FN: 448.0}


@dataclass(frozen=True)
class Scheme:
    """How a role is quantised."""

    weights: WeightFormat
    """The format of its matrices."""
    inputs: ir.DataType | None = None
    """The type that inputs of matrices are rounded to, if a text gives scales: INT8 or FLOAT8E4M3FN. None: not
    rounded."""
    smoothing: bool = False
    """Whether large input channels are scaled down and their weights up."""
    needs_text: bool = False
    """Whether it requires a text, for roles that can read one."""


def quantize_role(
    model: ir.Model,
    role: Role,
    scheme: Scheme,
    text: Sequence[Sequence[int]],
    quantizer: Quantizer,
) -> None:
    """Quantise a graph in place.

    Args:
        model: The float32 graph, with normalised matrix products.
        role: Its ports, in float32.
        scheme: How to quantise it.
        text: Sequences of tokens to calibrate with; without any, inputs are not rounded.
        quantizer: How weights are rounded; must not be AUTO.
    """
    scale_channels(model, role, text, scheme.weights, quantizer)
    scales = {} if scheme.inputs is None else _input_scales(model, role, scheme, scheme.inputs, text)
    experts = round_experts(model, role, text, scheme.weights, quantizer)
    moments = second_moments(model, role, text if quantizer.makes_up else ())
    QuantizeWeightsPass(scheme.weights, quantizer, moments)(model)
    QuantizeExpertsPass(experts)(model)
    if scheme.inputs is not None:
        QuantizeInputsPass(scales, scheme.inputs)(model)


def _input_scales(
    model: ir.Model, role: Role, scheme: Scheme, dtype: ir.DataType, text: Sequence[Sequence[int]]
) -> dict[str, float]:
    """A scale for every input that is worth rounding, after smoothing if the scheme asks for it."""
    ranges = activation_ranges(model, role, text)
    if scheme.smoothing:
        ranges = _smoothed(model, ranges)
    scales = {name: float(one.max() or 1.0) / _LARGEST[dtype] for name, one in ranges.items()}
    losses = rounding_losses(model, role, text, scales, dtype)
    heads = _head_inputs(model.graph, role)
    return {name: one for name, one in scales.items() if losses[name] <= _MOST_LOST and name not in heads}


def _head_inputs(graph: ir.Graph, role: Role) -> set[str]:
    """Inputs of the head: rounding them causes half of a small model's loss from rounding inputs."""
    return {layer.input_name for layer in head_layers(graph, role)}


def _smoothed(model: ir.Model, ranges: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Smooth a graph; returns the ranges of its inputs afterwards."""
    factors = smoothing_factors(model.graph, ranges)
    SmoothInputsPass(factors)(model)
    return {name: one / factors.get(name, np.float32(1)) for name, one in ranges.items()}
