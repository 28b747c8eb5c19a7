"""Computes a single row exactly as it is computed among several, in standard attention and float products."""

from __future__ import annotations

import onnx_ir as ir

from ptgc.graphs.piece import MODULE_KEY, Piece
from ptgc.graphs.values import take_place
from ptgc.spec import ports


class PadSingleRowPass(ir.passes.InPlacePass):
    """A round of one row attends as two rows, of which the second is dropped.

    ONNX Runtime's kernels sum a single row in another order than several. Keys and values stay as they are: the padded
    query sees nothing.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        nodes = [node for node in model.graph if node.op_type == "Attention" and not _is_padded(node)]
        if not nodes:
            return ir.passes.PassResult(model, modified=False)
        piece = Piece("ptgc.single_row")
        named = {value.name: value for value in model.graph.inputs}
        rows = piece.op("Shape", named[ports.INPUT_IDS.name], start=1, end=2)
        missing = piece.op("Sub", piece.op("Max", rows, piece.constant([2])), rows)
        nothing = piece.constant([0] * 6)
        padding = piece.op("Concat", nothing, missing, piece.constant([0]), axis=0)  # at the end of axis 2 of 4
        piece.insert_at_start(model.graph)
        masks: dict[ir.Value, ir.Value] = {}
        for node in nodes:
            _pad(node, rows, padding, masks)
        return ir.passes.PassResult(model, modified=True)


def _is_padded(attention: ir.Node) -> bool:
    query = attention.inputs[0]
    producer = query.producer() if query is not None else None
    return producer is not None and producer.op_type == "Pad"


def _pad(attention: ir.Node, rows: ir.Value, padding: ir.Value, masks: dict[ir.Value, ir.Value]) -> None:
    query, mask = attention.inputs[0], attention.inputs[3]
    assert query is not None and mask is not None
    piece = Piece(attention.metadata_props.get(MODULE_KEY, ""))
    if mask not in masks:
        masks[mask] = piece.op("Pad", mask, padding)
    attention.replace_input_with(0, piece.op("Pad", query, padding))
    attention.replace_input_with(3, masks[mask])
    piece.insert_before(attention)
    _keep_rows(attention, rows, 2)


def _keep_rows(node: ir.Node, count: ir.Value, axis: int) -> None:
    """Drop the added rows behind a node."""
    out = node.outputs[0]
    piece = Piece(node.metadata_props.get(MODULE_KEY, ""))
    kept = piece.op("Slice", out, piece.constant([0]), count, piece.constant([axis]))
    take_place(kept, out)
    slicing = kept.producer()
    assert slicing is not None and node.graph is not None
    slicing.replace_input_with(0, out)
    out.shape = None
    node.graph.insert_after(node, piece.nodes)


class PadSingleRowProductsPass(ir.passes.InPlacePass):
    """Products of rows with constant float matrices: a single row is padded to two.

    These are routers of experts, and matrices that no block size divides. As in attention, the kernels for one row and
    for several differ.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        nodes = [node for node in model.graph if _multiplies_rows(node)]
        for node in nodes:
            _pad_product(node)
        return ir.passes.PassResult(model, bool(nodes))


def _multiplies_rows(node: ir.Node) -> bool:
    """Whether a node multiplies rows that are not padded yet by a constant."""
    if node.op_type not in ("MatMul", "Gemm") or node.domain or node.attributes.get_int("transA", 0) == 1:
        return False
    rows, matrix = node.inputs[:2]
    producer = matrix.producer() if matrix is not None else None
    if producer is not None and producer.op_type == "Transpose":
        matrix = producer.inputs[0]
    if rows is None or rows.shape is None or len(rows.shape) < 2 or matrix is None or matrix.const_value is None:
        return False
    padded = rows.producer()
    return len(matrix.const_value.shape) >= 2 and (padded is None or padded.op_type != "Pad")


def _pad_product(node: ir.Node) -> None:
    rows = node.inputs[0]
    assert rows is not None and rows.shape is not None and node.graph is not None
    rank = len(rows.shape)
    piece = Piece(node.metadata_props.get(MODULE_KEY, ""))
    op, constant = piece.op, piece.constant
    count = op("Shape", rows, start=rank - 2, end=rank - 1)
    missing = op("Sub", op("Max", count, constant([2])), count)
    padding = op("Concat", constant([0] * (2 * rank - 2)), missing, constant([0]), axis=0)
    node.replace_input_with(0, op("Pad", rows, padding))
    piece.insert_before(node)
    _keep_rows(node, count, rank - 2)
