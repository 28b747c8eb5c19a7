"""Second moments of what the linear layers of a role read, over a text."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from ptgc.compiler.graph_session import GraphSession
from ptgc.graphs.linear import Linear, linears
from ptgc.graphs.piece import Piece
from ptgc.graphs.storage import save
from ptgc.spec.manifest import Role
from ptgc.spec.staging import storage_errors

_SUFFIX = ".moments"
_BYTES = 1 << 30  # of moments that one pass over the text gives


def second_moments(model: ir.Model, role: Role, text: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
    """The sum of x xᵀ over every input x of every linear layer.

    The graph runs in ONNX Runtime on the CPU, once or, where moments are large, several times.

    Args:
        model: The graph in float32; it stays as it is, but that every value gets a name of its own.
        role: Its ports; `graph_session.writes_alone` holds for it.
        text: Sequences of tokens, each within the model's context.

    Returns:
        `[in, in]` by the name of the input; nothing where there is no text.
    """
    if not text:
        return {}
    common.NameFixPass()(model)
    layers = {linear.input_name: linear for linear in linears(model.graph)}
    with tempfile.TemporaryDirectory(prefix="ptgc-") as folder:
        with storage_errors(Path(folder)), _observed(model.graph, list(layers.values())):
            save(model, Path(folder), "observed")
        session = GraphSession(Path(folder) / "observed.onnx", role, max(map(len, text)))
        return {
            name: moments
            for names in _portions(layers)
            for name, moments in zip(names, _summed(session, names, text), strict=True)
        }


def _summed(session: GraphSession, names: list[str], text: Sequence[Sequence[int]]) -> list[np.ndarray]:
    sums: list[np.ndarray] = []
    for sequence in text:
        session.reset()
        found = session.observe(sequence, [name + _SUFFIX for name in names])
        if not sums:
            sums = [np.zeros_like(one) for one in found]
        for total, one in zip(sums, found, strict=True):
            total += one
    return sums


def _portions(layers: dict[str, Linear]) -> Iterator[list[str]]:
    """Names of inputs, as many at a time as there is memory for."""
    portion: list[str] = []
    size = 0
    for name, linear in layers.items():
        added = 4 * linear.in_features**2
        if portion and size + added > _BYTES:
            yield portion
            portion, size = [], 0
        portion.append(name)
        size += added
    if portion:
        yield portion


@contextmanager
def _observed(graph: ir.Graph, layers: Sequence[Linear]) -> Iterator[None]:
    """The graph with the moments of every layer's input as outputs."""
    nodes: list[ir.Node] = []
    outputs = len(graph.outputs)
    try:
        for linear in layers:
            piece = Piece(linear.input_name + _SUFFIX)
            rows = piece.op("Reshape", linear.node.inputs[0], piece.constant([-1, linear.in_features]))
            moments = piece.op("Gemm", rows, rows, transA=1)
            moments.name, moments.dtype = linear.input_name + _SUFFIX, ir.DataType.FLOAT
            moments.shape = ir.Shape([linear.in_features, linear.in_features])
            piece.append_to(graph)
            nodes += piece.nodes
            graph.outputs.append(moments)
        yield
    finally:
        del graph.outputs[outputs:]
        graph.remove(nodes, safe=True)
