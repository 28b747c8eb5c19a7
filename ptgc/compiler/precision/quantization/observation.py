"""Collects statistics of the inputs of a role's matrices over a text, one for each point of the graph."""

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
    """A statistic of rows."""

    name: str
    """Its name, used in the names of the outputs."""
    write: Callable[[Piece, ir.Value, str], ir.Value]
    """Writes the nodes that compute it from rows `[rows, features]`; the last argument is the point's name."""
    shape: Callable[[int], tuple[int, ...]]
    """Its shape for a number of features."""
    join: np.ufunc
    """Combines the statistics of two sequences."""


@dataclass(frozen=True)
class Point:
    """A place in a graph whose rows are observed."""

    name: str
    """The point's name."""
    features: int
    """Length of a row."""
    write: Callable[[Piece], ir.Value]
    """Writes the nodes that compute the rows, `[rows, features]`."""


def linear_points(model: ir.Model) -> list[Point]:
    """The distinct inputs of all linear layers; every value is first given a unique name."""
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
    """Compute a statistic of each point over a text, a portion of the points at a time.

    The graph runs in ONNX Runtime on the CPU, once for each portion and as far as its last point. It is saved when the
    first portion is requested; the caller may change it from then on.

    Args:
        model: The graph in float32; it is not changed.
        role: A role for which `graph_session.writes_alone` holds.
        text: Sequences of tokens, each within the model's context; without any, nothing is yielded.
        points: The points to observe.
        statistic: The statistic to compute.
        portion_bytes: Bytes of statistics in one portion.

    Yields:
        Statistics by the point's name, in the order of the points. A portion is cleared when the next is requested, so
        that only one is in memory.
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
        del found  # frees it before the next sequence allocates as much
    return joined


def _portions(sizes: Mapping[str, int], most: int) -> Iterator[list[str]]:
    """Split the names of points into portions of at most `most` bytes."""
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
    """Temporarily add the statistic of every point as an output of the graph."""
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
