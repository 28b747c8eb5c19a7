"""WriteOutAttentionPass: attention as matrix products and a softmax, where an engine cannot have it as one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir

from ptgc.graphs.piece import MODULE_KEY, Piece
from ptgc.graphs.values import take_place

WRITTEN_OUT_KEY = "ptgc.written_out"
"""Node metadata: why attention, or a cache update, is no single operator here."""
PORTABLE = "TensorRT before 10.15 has no attention and no cache update as operators; written out (--lowering portable)"
"""The reason of the portable lowering."""
_LEAST = -1e30  # of a masked score: far below any other, and finite, so that a row without any slot is not NaN


def softcap_reason(attention: ir.Node) -> str | None:
    """Why TensorRT has no kernel for an Attention: scores capped by a tanh (Gemma 2, arXiv 2408.00118, section 2)."""
    if attention.attributes.get_float("softcap", 0.0) == 0.0:
        return None
    return "soft capping of the scores is no attribute of its attention layer; written out"


def portable_reason(attention: ir.Node) -> str | None:  # noqa: ARG001  # whatever it attends to
    """Why an older TensorRT has no Attention at all."""
    return PORTABLE


class WriteOutAttentionPass(ir.passes.InPlacePass):
    """`softmax(cap(scale * Q K^T) where mask) V` in single operators, with `cap(x) = softcap * tanh(x / softcap)`.

    Keys and values of grouped queries are not repeated: the rows of a group's heads are stacked, so that one product
    serves them and reads the cache once. The queries are scaled, which are smaller than the scores, and half precision
    does not overflow in products that are not scaled yet.

    Requires: four-dimensional Attention with static heads and head sizes, one output, no past, and no mask or a
    boolean one of four dimensions, with a row for each row of the query.
    Ensures: no node with a reason is left; the nodes that stand for it carry the reason as metadata.

    Args:
        reason: Why an Attention is written out; None where it stays.
    """

    def __init__(self, reason: Callable[[ir.Node], str | None] = softcap_reason) -> None:
        super().__init__()
        self._reason = reason

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        modified = False
        stacked: dict[tuple[ir.Value, int], ir.Value] = {}
        for node in list(model.graph):
            reason = self._reason(node) if node.op_type == "Attention" and _is_plain(node) else None
            if reason is not None:
                _write_out(model.graph, node, reason, stacked)
                modified = True
        return ir.passes.PassResult(model, modified)


def _is_plain(attention: ir.Node) -> bool:
    """Whether an Attention reads four-dimensional queries, and its mask says all that it may see."""
    query, attributes = attention.inputs[0], attention.attributes
    if query is None or query.shape is None or len(query.shape) != 4 or attributes.get_int("is_causal", 0) != 0:
        return False
    return len(attention.outputs) == 1 and all(value is None for value in attention.inputs[4:])


def _write_out(graph: ir.Graph, attention: ir.Node, reason: str, stacked: dict[tuple[ir.Value, int], ir.Value]) -> None:
    query, key, value, mask = (*attention.inputs, None)[:4]
    assert query is not None and key is not None and value is not None
    heads, head_dim = _static(query, 1), _static(query, 3)
    kv_heads, value_dim = _static(key, 1), _static(value, 3)
    piece = Piece(attention.metadata_props.get(MODULE_KEY, ""))
    op, constant = piece.op, piece.constant

    def number(x: float) -> ir.Value:
        return constant(np.array(x, np.float32))

    group = heads // kv_heads
    scale = attention.attributes.get_float("scale", head_dim**-0.5)
    softcap = attention.attributes.get_float("softcap", 0.0)
    rows = op("Mul", query, number(scale / softcap if softcap else scale))
    if group > 1:  # [batch, heads, rows, d] -> [batch, kv_heads, group * rows, d], which moves nothing
        rows = op("Reshape", rows, constant([0, kv_heads, -1, head_dim]))
    scores = op("MatMul", rows, op("Transpose", key, perm=[0, 1, 3, 2]))
    if softcap:
        scores = op("Mul", op("Tanh", scores), number(softcap))
    if mask is not None:
        if (mask, group) not in stacked:
            stacked[mask, group] = op("Concat", *[mask] * group, axis=2) if group > 1 else mask
        scores = op("Where", stacked[mask, group], scores, number(_LEAST))
    out = op("MatMul", op("Softmax", scores, axis=-1), value)
    if group > 1:
        out = op("Reshape", out, constant([0, heads, -1, value_dim]))
    for node in piece.nodes:
        node.metadata_props[WRITTEN_OUT_KEY] = reason
    piece.insert_before(attention)
    take_place(out, attention.outputs[0])
    graph.remove(attention, safe=True)


def _static(value: ir.Value, axis: int) -> int:
    assert value.shape is not None
    size = value.shape[axis]
    assert isinstance(size, int)
    return size
