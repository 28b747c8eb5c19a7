"""SmoothInputsPass: scales channels of large activations down, and the weights that read them up.

Source: Xiao et al., SmoothQuant (arXiv 2211.10438), section 4: `Y = (X diag(s)⁻¹) (diag(s) W)`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from ptgc.graphs.linear import Linear, linear_of, linears, only_user

_ALPHA = 0.5  # the paper's value: divides the difficulty between weights and activations
_NORMS = ("RMSNormalization", "LayerNormalization")
_SMOOTHED_KEY = "ptgc.smoothed"


@dataclass(frozen=True)
class _Constant:
    """A constant that scales the channels of a value."""

    node: ir.Node
    """The node that reads it."""
    index: int
    """The index of that input."""


def smoothing_factors(graph: ir.Graph, ranges: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The factors to divide the channels of inputs by: `s_j = max|X_j|^α / max|W_j|^(1-α)`.

    Only for inputs whose division costs nothing at run time: results of a norm, of a product with a constant or of a
    gated product that only linear layers read, so that the division can be folded into its constants.

    Args:
        graph: The float32 graph.
        ranges: `[in]`, the largest magnitude of each channel, by the input's name.

    Returns:
        float32 `[in]` by the input's name.
    """
    factors = {}
    for name, layers in dividable_inputs(graph).items():
        if name not in ranges:
            continue
        heaviest = np.max([_magnitudes(layer) for layer in layers], axis=0)
        found = ranges[name] ** _ALPHA / np.maximum(heaviest, np.finfo(np.float32).tiny) ** (1 - _ALPHA)
        useless = (ranges[name] == 0) | (heaviest == 0)
        factors[name] = np.where(useless, 1, found).astype(np.float32)
    return factors


def dividable_inputs(graph: ir.Graph) -> dict[str, list[Linear]]:
    """Inputs whose channels can be divided at no cost, by name, with the layers that read them."""
    return {value.name or "": layers for value, layers in _readers(graph) if _dividable(value, layers)}


class SmoothInputsPass(ir.passes.InPlacePass):
    """Divides channels of inputs by factors, and multiplies the weights that read them.

    Ensures: the model computes the same, except for rounding; constants that other nodes also read are not changed.

    Args:
        factors: `[in]` by the input's name, for some of `dividable_inputs`; other inputs are left alone.
    """

    def __init__(self, factors: Mapping[str, np.ndarray]) -> None:
        super().__init__()
        self._factors = factors

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        modified = False
        for value, layers in _readers(model.graph):
            producer, factors = value.producer(), self._factors.get(value.name or "")
            if factors is None or producer is None or _SMOOTHED_KEY in producer.metadata_props:
                continue
            for constant in _dividable(value, layers):
                _scale(model.graph, constant, 1 / factors)
            for layer in layers:
                node, index = _place(layer)
                _scale(model.graph, _Constant(node, index), factors if layer.transposed else factors[:, None])
            producer.metadata_props[_SMOOTHED_KEY] = "channels divided"
            modified = True
        return ir.passes.PassResult(model, modified)


def _readers(graph: ir.Graph) -> Iterator[tuple[ir.Value, list[Linear]]]:
    """Inputs of linear layers, each with all layers that read it."""
    found: dict[ir.Value, list[Linear]] = {}
    for layer in linears(graph):
        value = layer.node.inputs[0]
        assert value is not None
        found.setdefault(value, []).append(layer)
    yield from found.items()


def _dividable(value: ir.Value, layers: Sequence[Linear]) -> list[_Constant]:
    """Constants whose division divides a value's channels; empty if there are none, or if other nodes read it."""
    producer = value.producer()
    read = {use.node for use in value.uses()}
    if producer is None or value.is_graph_output() or read != {layer.node for layer in layers}:
        return []
    if any(len(layer.weight.uses()) != 1 for layer in layers):  # a tied head: the embedding reads its weight too
        return []
    size = layers[0].in_features
    if producer.op_type in _NORMS:
        constants = [_Constant(producer, index) for index in range(1, len(producer.inputs))]
        return constants if all(_is_vector(producer.inputs[one.index], size) for one in constants) else []
    if producer.op_type == "Mul":
        for index, factor in enumerate(producer.inputs):
            if _is_vector(factor, size):
                return [_Constant(producer, index)]
        return _of_layer(producer)
    return []


def _of_layer(product: ir.Node) -> list[_Constant]:
    """The weight of a linear layer without bias that is a factor of a gated product; its columns scale it."""
    for factor in reversed(product.inputs):
        layer = linear_of(factor.producer()) if factor is not None else None
        if factor is not None and layer is not None and only_user(factor, "Mul") and len(layer.weight.uses()) == 1:
            return [_Constant(*_place(layer))]
    return []


def _is_vector(value: ir.Value | None, size: int) -> bool:
    return value is not None and value.const_value is not None and tuple(value.const_value.shape.numpy()) == (size,)


def _place(layer: Linear) -> tuple[ir.Node, int]:
    """The node that reads a layer's weight, and the index of that input."""
    (use,) = layer.weight.uses()
    return use.node, use.idx


def _magnitudes(layer: Linear) -> np.ndarray:
    """The largest weight of each channel, `[in]`."""
    assert layer.weight.const_value is not None
    found: np.ndarray = np.abs(layer.weight.const_value.numpy()).max(axis=0 if layer.transposed else 1)
    return found


def _scale(graph: ir.Graph, constant: _Constant, factors: np.ndarray) -> None:
    """Replace a constant by its product with factors, computed lazily because weights are large."""
    old = constant.node.inputs[constant.index]
    assert old is not None and old.const_value is not None
    tensor, name = old.const_value, f"{old.name}.smoothed"
    shape = ir.Shape(tensor.shape.numpy())

    def build() -> ir.TensorProtocol:
        return ir.tensor((tensor.numpy() * factors).astype(np.float32, copy=False), name=name)

    made = ir.val(name, ir.DataType.FLOAT, shape, const_value=ir.LazyTensor(build, ir.DataType.FLOAT, shape, name=name))
    graph.register_initializer(made)
    constant.node.replace_input_with(constant.index, made)
