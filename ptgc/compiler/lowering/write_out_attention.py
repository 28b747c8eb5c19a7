"""WriteOutAttentionPass: writes attention as matrix products and a softmax, for engines without that operator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from ptgc.compiler.lowering.stack_query_groups import (
    StackedMasks,
    group_size,
    is_plain,
    stack_query_group,
    static_size,
)
from ptgc.graphs.piece import MODULE_KEY, Piece
from ptgc.graphs.values import take_place

WRITTEN_OUT_KEY = "ptgc.written_out"
"""Node metadata: why attention or a cache update is not a single operator here."""
PORTABLE = "TensorRT before 10.15 has no attention and no cache update as operators; written out (--lowering portable)"
"""The reason of the portable lowering."""
_LEAST = -1e30  # score of a masked slot: far below any other, but finite, so that a row that sees no slot is not NaN


def softcap_reason(attention: ir.Node) -> str | None:
    """Why TensorRT has no kernel for an Attention: scores capped by a tanh (Gemma 2, arXiv 2408.00118, section 2)."""
    if attention.attributes.get_float("softcap", 0.0) == 0.0:
        return None
    return "soft capping of the scores is no attribute of its attention layer; written out"


def portable_reason(attention: ir.Node) -> str | None:  # noqa: ARG001  # the reason is the same for every node
    """Why an older TensorRT has no Attention at all."""
    return PORTABLE


class WriteOutAttentionPass(ir.passes.InPlacePass):
    """`softmax(cap(scale * Q K^T) where mask) V` in single operators, with `cap(x) = softcap * tanh(x / softcap)`.

    Keys and values of grouped queries are not repeated (`stack_query_groups`). The queries are scaled rather than the
    scores: they are fewer, and unscaled products could overflow in half precision.

    Requires: for nodes that `is_plain` accepts, known numbers of heads and head sizes, and no mask or a boolean one of
    four dimensions with a row for each row of the query.
    Ensures: no node with a reason is left; the nodes that replace it carry the reason as metadata.

    Args:
        reason: Why an Attention is written out; None if it stays.
    """

    def __init__(self, reason: Callable[[ir.Node], str | None] = softcap_reason) -> None:
        super().__init__()
        self._reason = reason

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        modified = False
        masks: StackedMasks = {}
        for node in list(model.graph):
            reason = self._reason(node) if is_plain(node) else None
            if reason is not None:
                whole = stack_query_group(node, masks) if group_size(node) > 1 else node
                _write_out(model.graph, whole, reason)
                modified = True
        return ir.passes.PassResult(model, modified)


def _write_out(graph: ir.Graph, attention: ir.Node, reason: str) -> None:
    query, key, value, mask = (*attention.inputs, None)[:4]
    assert query is not None and key is not None and value is not None
    piece = Piece(attention.metadata_props.get(MODULE_KEY, ""))
    op, constant = piece.op, piece.constant

    def number(x: float) -> ir.Value:
        return constant(np.array(x, np.float32))

    scale = attention.attributes.get_float("scale", static_size(query, 3) ** -0.5)
    softcap = attention.attributes.get_float("softcap", 0.0)
    rows = op("Mul", query, number(scale / softcap if softcap else scale))
    scores = op("MatMul", rows, op("Transpose", key, perm=[0, 1, 3, 2]))
    if softcap:
        scores = op("Mul", op("Tanh", scores), number(softcap))
    if mask is not None:
        scores = op("Where", mask, scores, number(_LEAST))
    out = op("MatMul", op("Softmax", scores, axis=-1), value)
    for node in piece.nodes:
        node.metadata_props[WRITTEN_OUT_KEY] = reason
    piece.insert_before(attention)
    take_place(out, attention.outputs[0])
    graph.remove(attention, safe=True)
