"""What the linear layers of a role read on a text, kept as one statistic for each input."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class Statistic:
    """What is kept of the rows that a layer reads."""

    name: str
    """Names the outputs that observe it."""
    write: Callable[[Piece, ir.Value, str], ir.Value]
    """The nodes that compute it from rows `[rows, in]` of the input of that name."""
    shape: Callable[[int], tuple[int, ...]]
    """Its shape for so many `in`."""
    join: np.ufunc
    """What makes one of those of two sequences."""


def observe(
    model: ir.Model, role: Role, text: Sequence[Sequence[int]], statistic: Statistic, portion_bytes: int
) -> dict[str, np.ndarray]:
    """One statistic of every input of a linear layer, over a text.

    The graph runs in ONNX Runtime on the CPU, once or, where statistics are large, several times.

    Args:
        model: The graph in float32; it stays as it is, but that every value gets a name of its own.
        role: Its ports; `graph_session.writes_alone` holds for it.
        text: Sequences of tokens, each within the model's context.
        statistic: What is kept.
        portion_bytes: Bytes of statistics that one pass over the text gives.

    Returns:
        The statistic by the name of the input; nothing where there is no text.
    """
    if not text:
        return {}
    common.NameFixPass()(model)
    layers = {linear.input_name: linear for linear in linears(model.graph)}
    sizes = {name: _FLOAT_BYTES * math.prod(statistic.shape(one.in_features)) for name, one in layers.items()}
    with tempfile.TemporaryDirectory(prefix="ptgc-") as folder:
        with storage_errors(Path(folder)), _observed(model.graph, list(layers.values()), statistic):
            save(model, Path(folder), "observed")
        session = GraphSession(Path(folder) / "observed.onnx", role, max(map(len, text)))
        return {
            name: found
            for names in _portions(sizes, portion_bytes)
            for name, found in zip(names, _joined(session, names, text, statistic), strict=True)
        }


def _joined(
    session: GraphSession, names: Sequence[str], text: Sequence[Sequence[int]], statistic: Statistic
) -> list[np.ndarray]:
    outputs = [_output(name, statistic) for name in names]
    joined: list[np.ndarray] = []
    for sequence in text:
        session.reset()
        found = session.observe(sequence, outputs)
        if not joined:
            joined = [one.copy() for one in found]
            continue
        for total, one in zip(joined, found, strict=True):
            statistic.join(total, one, out=total)
    return joined


def _portions(sizes: Mapping[str, int], most: int) -> Iterator[list[str]]:
    """Names of inputs, as many at a time as there is memory for."""
    portion: list[str] = []
    taken = 0
    for name, size in sizes.items():
        if portion and taken + size > most:
            yield portion
            portion, taken = [], 0
        portion.append(name)
        taken += size
    if portion:
        yield portion


@contextmanager
def _observed(graph: ir.Graph, layers: Sequence[Linear], statistic: Statistic) -> Iterator[None]:
    """The graph with the statistic of every layer's input as an output."""
    nodes: list[ir.Node] = []
    outputs = len(graph.outputs)
    try:
        for linear in layers:
            piece = Piece(_output(linear.input_name, statistic))
            rows = piece.op("Reshape", linear.node.inputs[0], piece.constant([-1, linear.in_features]))
            found = statistic.write(piece, rows, linear.input_name)
            found.name, found.dtype = piece.name, ir.DataType.FLOAT
            found.shape = ir.Shape(statistic.shape(linear.in_features))
            piece.append_to(graph)
            nodes += piece.nodes
            graph.outputs.append(found)
        yield
    finally:
        del graph.outputs[outputs:]
        graph.remove(nodes, safe=True)


def _output(input_name: str, statistic: Statistic) -> str:
    return f"{input_name}.{statistic.name}"
