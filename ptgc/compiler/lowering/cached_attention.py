"""LowerCachedAttentionPass: attention over a cache becomes ptgc's own operator."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir
import onnx_ir.passes.common as common

from ptgc.compiler.lowering.block_products import DOMAIN
from ptgc.compiler.lowering.constant_table import table_over_positions
from ptgc.graphs.attention_mask import is_causal
from ptgc.graphs.linear import only_user
from ptgc.graphs.piece import MODULE_KEY, Piece
from ptgc.graphs.values import add_initializer, onnx_type, take_place
from ptgc.spec import ports
from ptgc.spec.attention import AttentionKind
from ptgc.spec.kv_cache import LayerState
from ptgc.spec.shapes import RoleShapes

_HEADS_FIRST = (0, 2, 1, 3)


@dataclass(frozen=True)
class _Rotary:
    """Tables of cosines and sines by position, [positions, rotary_dim / 2]."""

    cos: ir.Value
    sin: ir.Value


class LowerCachedAttentionPass(ir.passes.InPlacePass):
    """TensorScatter and Attention, with the rotary embedding before them, become one CachedAttention per layer.

    Its cost grows with the tokens in the cache, not with its capacity. What a row sees is added in the order of
    positions, so that a token's bits do not depend on the slots in which it and its past stand, nor on the other rows
    of its round.

    Args:
        states: The cache by layer, in the order of the Attention nodes; float32 or float16, whatever the graph has.
        shapes: The shapes that the role may run. The largest cache bounds the positions; smaller caches of windows
            slide.
        attention: Which rows of a round may see each other.
    """

    def __init__(self, states: tuple[LayerState, ...], shapes: RoleShapes, attention: AttentionKind) -> None:
        super().__init__()
        self._states = states
        self._in_order = attention is AttentionKind.CAUSAL
        self._positions = max(shapes.kv_capacities)
        self._sliding = {window for window, slots in shapes.window_capacities.items() if slots < self._positions}
        self._tables: dict[tuple[int, int], _Rotary | None] = {}

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        nodes = [node for node in model.graph if node.op_type == "Attention" and _scatters(node)]
        if not nodes:
            return ir.passes.PassResult(model, modified=False)
        model.graph.opset_imports[DOMAIN] = 1
        for layer, node in enumerate(nodes):
            self._lower(model.graph, node, self._states[layer])
        common.RemoveUnusedNodesPass()(model)
        _drop_unused_inputs(model.graph)
        return ir.passes.PassResult(model, modified=True)

    def _lower(self, graph: ir.Graph, attention: ir.Node, state: LayerState) -> None:
        query, keys, values = attention.inputs[:3]
        assert query is not None and keys is not None and values is not None
        scatter_key, scatter_value = keys.producer(), values.producer()
        assert scatter_key is not None and scatter_value is not None
        key, value = scatter_key.inputs[1], scatter_value.inputs[1]
        pasts = (scatter_key.inputs[0], scatter_value.inputs[0])
        assert key is not None and value is not None and pasts[0] is not None and pasts[1] is not None
        rotary, query, key = self._rotary(graph, query, key)
        assert query.shape is not None
        heads = query.shape[1]
        assert isinstance(heads, int)
        piece = Piece(attention.metadata_props.get(MODULE_KEY, ""))
        named = {value.name: value for value in graph.inputs}
        rows = _packed([_as_rows(piece, one) for one in (query, key, value)])
        slides = state.window in self._sliding
        out, present_key, present_value = piece.op_outputs(
            "CachedAttention",
            *rows,
            *pasts,
            *(named[port.name] for port in (ports.POSITION_IDS, ports.WRITE_INDEX, ports.MASK_START, ports.ROW_COUNT)),
            None if self._in_order else named[ports.TREE_MASK.name],
            named[ports.WINDOW_OFFSET.name] if slides else None,
            *((rotary.cos, rotary.sin) if rotary is not None else (None, None)),
            domain=DOMAIN,
            outputs=3,
            num_heads=heads,
            kv_num_heads=state.kv_heads,
            scale=attention.attributes.get_float("scale", state.head_dim**-0.5),
            softcap=attention.attributes.get_float("softcap", 0.0),
            window=state.window or 0,
            causal=int(self._in_order or is_causal(attention)),
        )
        piece.insert_before(attention)
        for past, present, old in ((pasts[0], present_key, keys), (pasts[1], present_value, values)):
            take_place(present, old)
            past.dtype = present.dtype = onnx_type(state.dtype)
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
        table = self._table(graph, cos, sin)
        return (table, query_in, key_in) if table is not None else (None, query, key)

    def _table(self, graph: ir.Graph, cos: ir.Value, sin: ir.Value) -> _Rotary | None:
        key = (id(cos), id(sin))
        if key not in self._tables:
            arrays = table_over_positions(graph, (cos, sin), self._positions)
            names = (f"rotary.{len(self._tables)}.cos", f"rotary.{len(self._tables)}.sin")
            self._tables[key] = (
                _Rotary(*(add_initializer(graph, name, array) for name, array in zip(names, arrays, strict=True)))
                if arrays is not None
                else None
            )
        return self._tables[key]


def _scatters(attention: ir.Node) -> bool:
    """Whether a node attends over a cache that receives the round's rows."""
    keys = attention.inputs[1]
    producer = keys.producer() if keys is not None else None
    return producer is not None and producer.op_type == "TensorScatter"


def _as_rows(piece: Piece, heads: ir.Value) -> ir.Value:
    """Heads `[batch, heads, num_tokens, head_dim]` as rows `[batch, num_tokens, heads * head_dim]`."""
    transpose = heads.producer()
    if transpose is not None:
        turns = transpose.op_type == "Transpose" and tuple(transpose.attributes.get_ints("perm", ())) == _HEADS_FIRST
        transpose = transpose if turns else None
    rows = transpose.inputs[0] if transpose is not None else piece.op("Transpose", heads, perm=list(_HEADS_FIRST))
    assert rows is not None
    reshape = rows.producer()
    if transpose is not None and reshape is not None and reshape.op_type == "Reshape":
        given = reshape.inputs[0]
        if given is not None and given.shape is not None and len(given.shape) == 3:
            return given
    assert heads.shape is not None
    count, size = heads.shape[1], heads.shape[3]
    assert isinstance(count, int) and isinstance(size, int)
    return piece.op("Reshape", rows, piece.constant([0, 0, count * size]))


def _packed(rows: list[ir.Value]) -> list[ir.Value | None]:
    """Query, key and value; or, where they are what one product gives, side by side, that and nothing else."""
    split = rows[0].producer()
    whole = split.op_type == "Split" and split.attributes.get_int("axis", 0) == -1 if split is not None else False
    return [split.inputs[0], None, None] if split is not None and whole and list(split.outputs) == rows else [*rows]


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
