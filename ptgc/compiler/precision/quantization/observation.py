"""What the matrices of a role are multiplied with on a text, kept as one statistic for each point of the graph."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from ptgc.compiler.graph_session import GraphSession
from ptgc.graphs.linear import Linear, linears
from ptgc.graphs.piece import Piece
from ptgc.graphs.storage import save
from ptgc.spec.role import Role
from ptgc.spec.staging import scratch_directory

_FLOAT_BYTES = 4
_PORTION_BYTES = 1 << 30


@dataclass(frozen=True)
class Statistic:
    """What is kept of rows."""

    name: str
    """Names the outputs that observe it."""
    write: Callable[[Piece, ir.Value, str], ir.Value]
    """The nodes that compute it from rows `[rows, features]` of the point of that name."""
    shape: Callable[[int], tuple[int, ...]]
    """Its shape for so many features."""
    join: np.ufunc
    """What makes one of those of two sequences."""


@dataclass(frozen=True)
class Point:
    """Rows of a graph that are observed."""

    name: str
    """Its own."""
    features: int
    """Numbers of a row."""
    write: Callable[[Piece], ir.Value]
    """The nodes that give the rows, `[rows, features]`."""


def linear_points(model: ir.Model) -> list[Point]:
    """The input of every linear layer, each once, by its name; every value gets a name of its own before."""
    common.NameFixPass()(model)
    return list({layer.input_name: _linear_point(layer) for layer in linears(model.graph)}.values())


def _linear_point(layer: Linear) -> Point:
    def write(piece: Piece) -> ir.Value:
        return piece.op("Reshape", layer.node.inputs[0], piece.constant([-1, layer.in_features]))

    return Point(layer.input_name, layer.in_features, write)


def observe(
    model: ir.Model,
    role: Role,
    text: Sequence[Sequence[int]],
    points: Sequence[Point],
    statistic: Statistic,
    portion_bytes: int = _PORTION_BYTES,
) -> Iterator[dict[str, np.ndarray]]:
    """One statistic of each point, over a text, a portion of the points at a time.

    The graph runs in ONNX Runtime on the CPU, once for each portion and as far as its last point. It is saved when the
    first portion is asked for, and read no more: who asks may change it from then on.

    Args:
        model: The graph in float32; it stays as it is.
        role: Its ports; `graph_session.writes_alone` holds for it.
        text: Sequences of tokens, each within the model's context; none gives nothing.
        points: What is observed.
        statistic: What is kept.
        portion_bytes: Bytes of statistics that one portion has.

    Yields:
        Statistics by the point's name, in the order of the points. Each is emptied when the next is asked for, so that
        no two are in memory.
    """
    if not text or not points:
        return
    sizes = {one.name: _FLOAT_BYTES * math.prod(statistic.shape(one.features)) for one in points}
    with scratch_directory() as folder:
        with _observed(model.graph, points, statistic):
            save(model, folder, "observed")
        session = GraphSession(folder / "observed.onnx", role, max(map(len, text)), frugal=True)
        for names in _portions(sizes, portion_bytes):
            portion = dict(zip(names, _joined(session, names, text, statistic), strict=True))
            yield portion
            portion.clear()


def observe_all(
    model: ir.Model, role: Role, text: Sequence[Sequence[int]], statistic: Statistic
) -> dict[str, np.ndarray]:
    """A small statistic of every input of a linear layer, by the input's name; see `observe`."""
    found: dict[str, np.ndarray] = {}
    for portion in observe(model, role, text, linear_points(model), statistic):
        found |= portion
    return found


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
        else:
            for total, one in zip(joined, found, strict=True):
                statistic.join(total, one, out=total)
        del found  # before the next sequence gives as much again
    return joined


def _portions(sizes: Mapping[str, int], most: int) -> Iterator[list[str]]:
    """Names of points, as many at a time as there is memory for."""
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
def _observed(graph: ir.Graph, points: Sequence[Point], statistic: Statistic) -> Iterator[None]:
    """The graph with the statistic of every point as an output."""
    nodes: list[ir.Node] = []
    outputs = len(graph.outputs)
    try:
        for point in points:
            piece = Piece(_output(point.name, statistic))
            found = statistic.write(piece, point.write(piece), point.name)
            found.name, found.dtype = piece.name, ir.DataType.FLOAT
            found.shape = ir.Shape(statistic.shape(point.features))
            piece.append_to(graph)
            nodes += piece.nodes
            graph.outputs.append(found)
        yield
    finally:
        del graph.outputs[outputs:]
        graph.remove(nodes, safe=True)


def _output(point: str, statistic: Statistic) -> str:
    return f"{point}.{statistic.name}"
