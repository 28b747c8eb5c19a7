"""Rounds the matrices of a mixture's experts, each for the rows that were routed to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import gcd

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from ptgc.compiler.precision.quantization.observation import Point
from ptgc.compiler.precision.quantization.quantizer import Quantizer
from ptgc.compiler.precision.quantization.round_matrix import Rounded, round_matrix
from ptgc.compiler.precision.quantization.second_moments import second_moments
from ptgc.compiler.precision.quantization.weight_format import WeightFormat
from ptgc.graphs.experts import Experts, Stack, mixtures, stacks
from ptgc.graphs.piece import Piece
from ptgc.spec.role import Role

# An expert that saw fewer rows than this share of its number of inputs is rounded to the nearest. With 512 inputs that
# vary equally in all directions, GPTQ on 64, 128 and 256 rows loses 1.2, 1.1 and 0.7 times what rounding to the nearest
# loses; if they vary in only 128 directions, 0.4, 0.14 and 0.1 times.
_LEAST_ROWS = 0.25


def round_experts(
    model: ir.Model,
    role: Role,
    text: Sequence[Sequence[int]],
    wanted: WeightFormat,
    quantizer: Quantizer,
) -> dict[ir.Value, list[Rounded]]:
    """Round every expert's matrices to a format; the graph is not changed.

    Moments are those of the rows that chose an expert, each multiplied by the weight that it gave the expert, because
    that is how much a row's error counts in the sum over experts. Experts that receive few rows are rounded to the
    nearest.

    Args:
        model: The float32 graph, with its experts as exported.
        role: Its ports.
        text: Sequences of tokens, if the quantiser reads any.
        wanted: The format to round to.
        quantizer: How they are rounded.

    Returns:
        The experts in order, by stack; stacks that no block size divides are left out. If the format has blocks, both
        stacks of a mixture get the same block size.
    """
    found = mixtures(model.graph)
    sizes = _block_sizes(model.graph, found, wanted)
    rounded: dict[ir.Value, dict[int, Rounded]] = {stack.value: {} for stack in sizes}
    if found and quantizer.makes_up and text:
        common.NameFixPass()(model)
        for stack, expert, moments in _routed_moments(model, role, text, found):
            if stack in sizes:
                matrix = stack.array()[expert].T
                rounded[stack.value][expert] = round_matrix(matrix, wanted, sizes[stack], quantizer, moments)
    for stack, size in sizes.items():
        known = rounded[stack.value]
        for expert, matrix in enumerate(stack.array()):
            if expert not in known:
                known[expert] = round_matrix(np.ascontiguousarray(matrix.T), wanted, size, quantizer)
    return {value: [known[expert] for expert in sorted(known)] for value, known in rounded.items()}


def _block_sizes(graph: ir.Graph, found: Sequence[Experts], wanted: WeightFormat) -> dict[Stack, int]:
    """The block size of every stack that has one."""
    common_size: dict[ir.Value, int] = {}
    for experts in found:
        pair = experts.gate_up, experts.down
        for stack in pair:
            common_size[stack.value] = gcd(*(one.shape[2] for one in pair))
    sizes = {}
    for stack in stacks(graph):
        features = stack.shape[2]
        shared = features if wanted.per_channel else common_size.get(stack.value, features)
        size = wanted.block_size(shared)
        if size is not None:
            sizes[stack] = size
    return sizes


def _routed_moments(
    model: ir.Model, role: Role, text: Sequence[Sequence[int]], found: Sequence[Experts]
) -> Iterator[tuple[Stack, int, np.ndarray]]:
    """The moments of every expert that saw enough rows, with its stack and index."""
    points: list[Point] = []
    which: dict[str, tuple[Stack, int]] = {}
    for experts in found:
        points.append(_choices(experts))
        for stack, rows in ((experts.gate_up, experts.rows), (experts.down, experts.inner)):
            for expert in range(stack.shape[0]):
                point = _routed(experts, stack, rows, expert)
                points.append(point)
                which[point.name] = stack, expert
    counts: dict[ir.Value, np.ndarray] = {}
    of_mixture = {_choices(experts).name: experts for experts in found}
    for portion in second_moments(model, role, text, points):
        for name, moments in portion.items():
            if name in of_mixture:  # comes before its experts; counts their rows
                for stack in (of_mixture[name].gate_up, of_mixture[name].down):
                    counts[stack.value] = moments.diagonal().copy()
                continue
            stack, expert = which[name]
            if counts[stack.value][expert] >= _LEAST_ROWS * stack.shape[2]:
                yield stack, expert, moments


def _choices(experts: Experts) -> Point:
    """Rows of 0 and 1, one column per expert; the diagonal of their second moments counts each expert's rows."""

    def write(piece: Piece) -> ir.Value:
        chosen = piece.op("Not", piece.op("Equal", experts.table, piece.constant(np.array(0, np.float32))))
        numbers = piece.op("Cast", chosen, to=ir.DataType.FLOAT)
        return piece.op("Transpose", piece.op("Squeeze", numbers, piece.constant([2])), perm=[1, 0])

    return Point(f"{experts.gate_up.value.name}.choices", experts.gate_up.shape[0], write)


def _routed(experts: Experts, stack: Stack, rows: ir.Value, expert: int) -> Point:
    """Rows times the weight that they gave one expert; 0 for rows that did not choose it."""

    def write(piece: Piece) -> ir.Value:
        def of_expert(value: ir.Value, index: int) -> ir.Value:
            return piece.op("Gather", value, piece.constant(np.array(index)), axis=0)

        own = of_expert(rows, 0 if rows is experts.rows else expert)
        return piece.op("Mul", own, of_expert(experts.table, expert))

    return Point(f"{stack.value.name}.{expert}", stack.shape[2], write)
