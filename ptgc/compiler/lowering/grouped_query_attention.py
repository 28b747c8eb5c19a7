"""LowerAttentionPass: attention of one sequence over its cache becomes ONNX Runtime's GroupQueryAttention.

The cost of the standard Attention grows with the capacity of the cache, that of GroupQueryAttention with the tokens in
it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import onnx_ir.passes.common as common

from ptgc.compiler.lowering.constant_table import table_over_positions
from ptgc.graphs.attention_mask import AttentionMask, CacheSlots, RoundPorts, is_causal
from ptgc.graphs.linear import only_user
from ptgc.graphs.piece import MODULE_KEY, Piece
from ptgc.graphs.values import add_initializer, take_place
from ptgc.spec import ports
from ptgc.spec.attention import AttentionKind
from ptgc.spec.kv_cache import LayerState
from ptgc.spec.shapes import RoleShapes

_HEADS_FIRST = (0, 2, 1, 3)
_HIDDEN = np.array(np.finfo(np.float32).min, np.float32)
"""Added to the score of a slot that is hidden."""


@dataclass(frozen=True)
class _Lengths:
    """What the operator reads besides a round's rows."""

    last: ir.Value  # int32 [batch]: slots in use after this round, minus one
    total: ir.Value  # int32 [1]: slots in use, the most in the batch
    positions: ir.Value | None  # int64 [batch, rows]: if slots are not positions
    bias: ir.Value | None  # float32 [batch, 1, rows, total]: added to the scores; None for text in order


@dataclass(frozen=True)
class _Rows:
    """How a single row is padded to two."""

    count: ir.Value  # int64 [1]: rows of the round
    padding: ir.Value  # int64 [6]: the pads that extend [batch, rows, width] to two rows


@dataclass(frozen=True)
class _Rotary:
    """Tables of cosines and sines by position, [positions, head_dim / 2]."""

    cos: ir.Value
    sin: ir.Value


class LowerAttentionPass(ir.passes.InPlacePass):
    """TensorScatter and Attention, with the rotary embedding before them, become one operator per layer.

    This is valid for one sequence whose rounds occupy its last slots in use. For text in order, the operator's causal
    mask equals the tree mask, and a row's position is its cache slot; only sliding caches are given positions. Padded
    rows come last, so no valid row sees them.

    Otherwise the operator is given the mask, windows included, as a bias over the slots in use, and rows that are
    already rotated. If the cache is empty, the operator takes row numbers for positions, whatever positions it is given
    (onnxruntime 1.31.1).

    With `pad_single_row`, a single row is padded to two around the operator. Its kernels sum a single row in another
    order than several, and if later products round activations to integers, a difference in the last bit grows from
    layer to layer. With two rows, a token's logits are bit-identical in rounds of any width. The padding costs up to a
    sixth of a plain round, so only builds that speculate with rounded activations use it. Like any padded row, the
    added row takes a cache slot behind the round's.

    Args:
        states: The cache by layer, in the order of the Attention nodes.
        shapes: The shapes that the role may run. The largest cache bounds the positions; smaller caches of windows
            slide.
        attention: Which rows of a round may see each other.
        pad_single_row: Whether a single row is padded to two.
    """

    def __init__(
        self, states: tuple[LayerState, ...], shapes: RoleShapes, attention: AttentionKind, *, pad_single_row: bool
    ) -> None:
        super().__init__()
        assert not pad_single_row or shapes.widths[-1] > 1  # caches have spare slots for the widest round
        self._pad_single_row = pad_single_row
        self._states = states
        self._attention = attention
        self._positions = max(shapes.kv_capacities)
        self._sliding = {window for window, slots in shapes.window_capacities.items() if slots < self._positions}
        self._tables: dict[tuple[int, int], _Rotary] = {}

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        nodes = [node for node in model.graph if node.op_type == "Attention"]
        if not nodes:
            return ir.passes.PassResult(model, modified=False)
        in_order = self._attention is AttentionKind.CAUSAL
        prologue = _Prologue(model.graph, pad_single_row=self._pad_single_row)
        # Layers with the same window share these inputs. For text in order, the operator handles windows itself.
        kinds = [(state.window in self._sliding, None if in_order else state.window) for state in self._states]
        lengths = {kind: prologue.lengths(*kind, has_bias=not in_order) for kind in dict.fromkeys(kinds)}
        prologue.insert()
        for layer, node in enumerate(nodes):
            self._lower(model.graph, node, self._states[layer], lengths[kinds[layer]], prologue.rows)
        common.RemoveUnusedNodesPass()(model)
        _drop_unused_inputs(model.graph)
        return ir.passes.PassResult(model, modified=True)

    def _lower(
        self, graph: ir.Graph, attention: ir.Node, state: LayerState, lengths: _Lengths, single_row: _Rows | None
    ) -> None:
        query, keys, values = attention.inputs[:3]
        assert query is not None and keys is not None and values is not None
        scatter_key, scatter_value = keys.producer(), values.producer()
        assert scatter_key is not None and scatter_value is not None
        key, value = scatter_key.inputs[1], scatter_value.inputs[1]
        assert key is not None and value is not None
        rotary = None
        if lengths.bias is None:
            rotary, query, key = self._rotary(graph, query, key)
        assert query.shape is not None
        heads = query.shape[1]
        assert isinstance(heads, int)
        piece = Piece(attention.metadata_props.get(MODULE_KEY, ""))
        rows = _packed_rows(piece, query, key, value)
        if single_row is not None:
            rows = [value if value is None else piece.op("Pad", value, single_row.padding) for value in rows]
        attributes: dict[str, int | float] = {
            "num_heads": heads,
            "kv_num_heads": state.kv_heads,
            "scale": attention.attributes.get_float("scale", state.head_dim**-0.5),
            "do_rotary": 0 if rotary is None else 1,
        }
        if lengths.bias is None and state.window is not None:
            attributes["local_window_size"] = state.window
        if self._attention is AttentionKind.BLOCK and not is_causal(attention):
            attributes["causal"] = 0
        softcap = attention.attributes.get_float("softcap", 0.0)
        if softcap:
            attributes["softcap"] = softcap
        out, present_key, present_value = piece.op_outputs(
            "GroupQueryAttention",
            *rows,
            scatter_key.inputs[0],
            scatter_value.inputs[0],
            lengths.last,
            lengths.total,
            *((rotary.cos, rotary.sin, lengths.positions) if rotary else (None, None, None)),
            lengths.bias,
            domain="com.microsoft",
            outputs=3,
            **attributes,
        )
        if single_row is not None:
            out = piece.op("Slice", out, piece.constant([0]), single_row.count, piece.constant([1]))
        piece.insert_before(attention)
        take_place(present_key, keys)
        take_place(present_value, values)
        _replace_output(attention, out, heads * state.head_dim)

    def _rotary(self, graph: ir.Graph, query: ir.Value, key: ir.Value) -> tuple[_Rotary | None, ir.Value, ir.Value]:
        """The rotary tables with query and key before rotation; no tables if the operator cannot rotate them."""
        turned, turned_key = query.producer(), key.producer()
        if turned is None or turned_key is None or turned.op_type != "RotaryEmbedding":
            return None, query, key
        cos, sin = turned.inputs[1:3]
        same = turned_key.op_type == "RotaryEmbedding" and tuple(turned_key.inputs[1:3]) == (cos, sin)
        assert cos is not None and sin is not None
        interleaved = turned.attributes.get_int("interleaved", 0)
        query_in, key_in = turned.inputs[0], turned_key.inputs[0]
        if not same or interleaved or query_in is None or key_in is None:
            return None, query, key
        if query_in.shape is None or not isinstance(query_in.shape[3], int):
            return None, query, key
        if (turned.attributes.get_int("rotary_embedding_dim", 0) or query_in.shape[3]) % 16:
            return None, query, key  # the operator only rotates multiples of 16 (whole heads or their first part)
        table = self._table(graph, cos, sin)
        return (table, query_in, key_in) if table is not None else (None, query, key)

    def _table(self, graph: ir.Graph, cos: ir.Value, sin: ir.Value) -> _Rotary | None:
        key = (id(cos), id(sin))
        if key not in self._tables:
            arrays = table_over_positions(graph, (cos, sin), self._positions)
            if arrays is None:
                return None
            names = (f"rotary.{len(self._tables)}.cos", f"rotary.{len(self._tables)}.sin")
            values = [add_initializer(graph, name, array) for name, array in zip(names, arrays, strict=True)]
            self._tables[key] = _Rotary(*values)
        return self._tables[key]


class _Prologue:
    """Nodes at the start of the graph that compute what all layers read of a round."""

    def __init__(self, graph: ir.Graph, *, pad_single_row: bool) -> None:
        self._graph = graph
        self._named = {value.name: value for value in graph.inputs}
        self._piece = Piece("ptgc.lengths")
        op, constant = self._piece.op, self._piece.constant
        rows = op("Shape", self._named[ports.INPUT_IDS.name], start=1, end=2)  # [1]
        self._tokens = rows
        self._missing: ir.Value | None = None  # int64 [1]: rows that are added
        self.rows: _Rows | None = None
        self._mask: AttentionMask | None = None
        if pad_single_row:
            self._tokens = op("Max", rows, constant([2]))
            zero, self._missing = constant([0]), op("Sub", self._tokens, rows)
            self.rows = _Rows(rows, op("Concat", *[zero] * 4, self._missing, zero, axis=0))

    def lengths(self, slides: bool, window: int | None, *, has_bias: bool) -> _Lengths:  # part of a key
        """The lengths for caches that slide or do not slide; `window` applies to the mask."""
        op, constant = self._piece.op, self._piece.constant
        first = self._named[ports.WRITE_INDEX.name]
        if slides:
            first = op("Sub", first, self._named[ports.WINDOW_OFFSET.name])
        positions = self._padded(ports.POSITION_IDS, 1) if slides and not has_bias else None
        total = op("Add", first, self._tokens)  # [batch]
        last = op("Cast", op("Sub", total, constant(1)), to=ir.DataType.INT32)
        longest = op("ReduceMax", total, keepdims=1)
        bias = self._bias(longest, window, slides=slides) if has_bias else None
        return _Lengths(last, op("Cast", longest, to=ir.DataType.INT32), positions, bias)

    def _padded(self, port: ports.Port, *axes: int) -> ir.Value:
        """A port padded along `axes` to the number of rows that the operator computes."""
        value = self._named[port.name]
        if self._missing is None:
            return value
        zero = self._piece.constant([0])
        ends = [self._missing if axis in axes else zero for axis in range(len(port.shape))]
        padding = self._piece.op("Concat", *[zero] * len(port.shape), *ends, axis=0)
        if port.dtype is not ports.DType.BOOL:
            return self._piece.op("Pad", value, padding)
        numbers = self._piece.op("Cast", value, to=ir.DataType.INT32)
        return self._piece.op("Cast", self._piece.op("Pad", numbers, padding), to=ir.DataType.BOOL)

    def _bias(self, total: ir.Value, window: int | None, *, slides: bool) -> ir.Value:
        """The mask as numbers over the first `total` slots, which is the length that the operator requires."""
        op, constant = self._piece.op, self._piece.constant
        if self._mask is None:
            start, write_index, count = (
                self._named[port.name] for port in (ports.MASK_START, ports.WRITE_INDEX, ports.ROW_COUNT)
            )
            tree_mask, positions = self._padded(ports.TREE_MASK, 1, 2), self._padded(ports.POSITION_IDS, 1)
            self._mask = AttentionMask(self._piece, RoundPorts(tree_mask, start, write_index, count, positions))
        slots = CacheSlots(
            op("Squeeze", total, constant([0])), self._named[ports.WINDOW_OFFSET.name] if slides else None
        )
        mask = self._mask.full(slots) if window is None else self._mask.window(slots, window)
        return op("Where", mask, constant(np.array(0, np.float32)), constant(_HIDDEN))

    def insert(self) -> None:
        """Insert the nodes into the graph."""
        self._piece.insert_at_start(self._graph)


def _packed_rows(piece: Piece, *heads: ir.Value) -> list[ir.Value | None]:
    """Query, key and value as rows `[batch, num_tokens, heads * head_dim]`, as one value if they already are one."""
    rows = [_rows(value) for value in heads]
    split = rows[0].producer() if rows[0] is not None else None
    if split is not None and split.op_type == "Split" and tuple(rows) == tuple(split.outputs):
        return [split.inputs[0], None, None]
    return [_as_rows(piece, value) if row is None else row for row, value in zip(rows, heads, strict=True)]


def _rows(heads: ir.Value) -> ir.Value | None:
    """The rows that were reshaped and transposed into these heads; None if they were not."""
    transpose = heads.producer()
    if transpose is None or transpose.op_type != "Transpose":
        return None
    if tuple(transpose.attributes.get_ints("perm", ())) != _HEADS_FIRST or transpose.inputs[0] is None:
        return None
    reshape = transpose.inputs[0].producer()
    if reshape is None or reshape.op_type != "Reshape" or reshape.inputs[0] is None:
        return None
    rows = reshape.inputs[0]
    return rows if rows.shape is not None and len(rows.shape) == 3 else None


def _as_rows(piece: Piece, heads: ir.Value) -> ir.Value:
    transpose = heads.producer()
    if (
        transpose is not None
        and transpose.op_type == "Transpose"
        and tuple(transpose.attributes.get_ints("perm", ())) == _HEADS_FIRST
    ):
        rows = transpose.inputs[0]
    else:
        rows = piece.op("Transpose", heads, perm=list(_HEADS_FIRST))
    assert heads.shape is not None
    count, size = heads.shape[1], heads.shape[3]
    assert isinstance(count, int) and isinstance(size, int)
    return piece.op("Reshape", rows, piece.constant([0, 0, count * size]))


def _replace_output(attention: ir.Node, rows: ir.Value, width: int) -> None:
    """Replace the standard operator's heads, which most models transpose and reshape into rows, by the new rows."""
    heads = attention.outputs[0]
    transpose = only_user(heads, "Transpose")
    reshape = only_user(transpose.outputs[0], "Reshape") if transpose is not None else None
    old = reshape.outputs[0] if reshape is not None else None
    if old is not None and old.shape is not None and len(old.shape) == 3 and old.shape[-1] == width:
        take_place(rows, old)
        return
    # A model that first gates, normalises or slices its heads still gets heads.
    assert heads.shape is not None
    count, size = heads.shape[1], heads.shape[3]
    assert isinstance(count, int) and isinstance(size, int)
    piece = Piece(attention.metadata_props.get(MODULE_KEY, ""))
    split = piece.op("Reshape", rows, piece.constant([0, 0, count, size]))
    take_place(piece.op("Transpose", split, perm=list(_HEADS_FIRST)), heads)
    piece.insert_before(attention)


def _drop_unused_inputs(graph: ir.Graph) -> None:
    for value in list(graph.inputs):
        if not value.uses() and not value.is_graph_output():
            graph.inputs.remove(value)
