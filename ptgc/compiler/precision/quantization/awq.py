"""AWQ: important channels are scaled up before weights are rounded, so that they lose less.

Source: Lin et al., AWQ: Activation-aware Weight Quantization (arXiv 2306.00978), section 3.2: minimise over α in [0, 1]
‖Q(W diag(s)) diag(s)⁻¹ X - W X‖ with s = s_X^α, s_X the magnitude of each channel of X.

Here `H`, the second moments of the inputs, replaces X: the squared norm of Δᵀ X is the trace of Δᵀ H Δ, and the root of
H's diagonal is the magnitude of a channel. The paper takes the mean of |x|; the root of the mean of x² needs no further
pass over the text.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ptgc.compiler.precision.quantization.observation import linear_points
from ptgc.compiler.precision.quantization.quantizer import Quantizer
from ptgc.compiler.precision.quantization.round_matrix import grid_of
from ptgc.compiler.precision.quantization.rounding import take_from_grid
from ptgc.compiler.precision.quantization.second_moments import second_moments
from ptgc.compiler.precision.quantization.smooth_inputs import SmoothInputsPass, dividable_inputs
from ptgc.compiler.precision.quantization.weight_format import Numbers, WeightFormat
from ptgc.graphs.linear import Linear
from ptgc.spec.role import Role

_ALPHAS = tuple(step / 20 for step in range(1, 20))  # 20 steps, as in the paper; at 0 nothing is scaled
_SAMPLE = 512  # columns of a layer that the error is measured on; with all, the search would take longer than GPTQ
_LEAST = 1e-4  # least magnitude of a channel, so that nothing is divided by 0


def scale_channels(
    model: ir.Model, role: Role, text: Sequence[Sequence[int]], wanted: WeightFormat, quantizer: Quantizer
) -> None:
    """Scale channels of weights up, where dividing their inputs costs nothing.

    Args:
        model: The float32 graph with normalised matrix products, changed in place; it still computes the same.
        role: Its ports.
        text: Sequences of tokens; none leaves the graph as it is.
        wanted: The format that weights will have.
        quantizer: The quantiser; if it scales no channels, the graph stays as it is.
    """
    if not quantizer.scales_channels:
        return
    points = linear_points(model)
    dividable = dividable_inputs(model.graph)
    factors: dict[str, np.ndarray] = {}
    for portion in second_moments(model, role, text, [point for point in points if point.name in dividable]):
        for name, moments in portion.items():
            found = _factors([_matrix(layer) for layer in dividable[name]], moments, wanted)
            if found is not None:
                factors[name] = found
    SmoothInputsPass(factors)(model)


def _factors(matrices: Sequence[np.ndarray], moments: np.ndarray, wanted: WeightFormat) -> np.ndarray | None:
    """The factors to divide an input's channels by; None if not scaling is best.

    Args:
        matrices: `[in, out]` each, of the layers that read the input.
        moments: `[in, in]`.
        wanted: The format that they will have.
    """
    block_size = wanted.block_size(len(moments))
    if block_size is None or any(_on_grid(matrix, wanted, block_size) for matrix in matrices):
        return None
    matrix = np.concatenate([_sample(one) for one in matrices], axis=1)
    magnitudes = np.sqrt(moments.diagonal())
    magnitudes = np.maximum(magnitudes / (magnitudes.max() or 1), _LEAST)
    best, least = None, _error(matrix, np.ones(len(matrix), np.float32), moments, wanted, block_size)
    for alpha in _ALPHAS:
        tried = magnitudes ** np.float32(alpha)
        tried /= np.sqrt(tried.max() * tried.min())
        error = _error(matrix, tried, moments, wanted, block_size)
        if error < least:
            best, least = tried, error
    return best


def _error(
    matrix: np.ndarray, factors: np.ndarray, moments: np.ndarray, wanted: WeightFormat, block_size: int
) -> float:
    """The sum of Δᵀ H Δ over columns, Δ being the rounding error if the channels are scaled first."""
    grid = grid_of(wanted)
    scaled = matrix * factors[:, None]
    for start in range(0, len(matrix), block_size):
        block = scaled[start : start + block_size]
        scales = grid.scales(block)
        block[:] = grid.round(block / scales) * scales
    lost = scaled / factors[:, None] - matrix
    return float(np.vdot(lost, moments @ lost))


def _on_grid(matrix: np.ndarray, wanted: WeightFormat, block_size: int) -> bool:
    """Whether rounding loses nothing as it is, so that scaling would only harm."""
    if wanted.numbers is Numbers.FLOAT:
        return False
    return take_from_grid(matrix, wanted.bits, block_size, positive=wanted.per_channel) is not None


def _sample(matrix: np.ndarray) -> np.ndarray:
    """Columns spread evenly over a matrix."""
    columns = matrix.shape[1]
    return matrix[:, np.unique(np.linspace(0, columns - 1, _SAMPLE).astype(int))]


def _matrix(layer: Linear) -> np.ndarray:
    assert layer.weight.const_value is not None
    matrix = layer.weight.const_value.numpy().astype(np.float32, copy=False)
    return matrix.T if layer.transposed else matrix
