"""WriteOutRotaryEmbeddingPass: writes rotary embeddings as products and sums."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from ptgc.graphs.piece import MODULE_KEY, Piece
from ptgc.graphs.values import take_place


class WriteOutRotaryEmbeddingPass(ir.passes.InPlacePass):
    """Rotates pairs of a head's numbers by an angle (Su et al., arXiv 2104.09864, equation 34) with basic operators.

    ```
    halves        a = x[..., :n/2]    b = x[..., n/2:n]     the first n numbers of a head are rotated, interleaved   a =
    x[..., 0:n:2]   b = x[..., 1:n:2]     the others stay out           a cos - b sin,      a sin + b cos         where
    a and b were ```

    Requires: rows of known rank, with static heads and head sizes.
    Ensures: no RotaryEmbedding is left; layers that share angles share the nodes computed from them.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        nodes = [node for node in model.graph if node.op_type == "RotaryEmbedding"]
        made: dict[tuple[ir.Value, ir.Value | None, int], ir.Value] = {}
        for node in nodes:
            _write_out(model.graph, node, made)
        return ir.passes.PassResult(model, bool(nodes))


@dataclass(frozen=True)
class _Layout:
    """How the heads of an input are laid out."""

    heads: int
    """Number of heads if they are packed in rows (`[batch, num_tokens, heads * head_dim]`); 0 if they are axis 1."""
    head_dim: int
    """Numbers of a head."""
    turned: int
    """How many of them are rotated."""

    @property
    def heads_axis(self) -> int:
        """The axis of the heads, once they have one."""
        return 2 if self.heads else 1


def _layout(node: ir.Node) -> _Layout:
    x = node.inputs[0]
    assert x is not None and x.shape is not None
    heads = node.attributes.get_int("num_heads", 0) if len(x.shape) == 3 else 0
    width = x.shape[-1]
    assert isinstance(width, int)
    head_dim = width // max(1, heads)
    return _Layout(heads, head_dim, node.attributes.get_int("rotary_embedding_dim", 0) or head_dim)


def _write_out(graph: ir.Graph, node: ir.Node, made: dict[tuple[ir.Value, ir.Value | None, int], ir.Value]) -> None:
    x, cos, sin, positions = (*node.inputs, None)[:4]
    assert x is not None and cos is not None and sin is not None
    layout = _layout(node)
    piece = Piece(node.metadata_props.get(MODULE_KEY, ""))
    constant = piece.constant
    angles = []
    for table in (cos, sin):
        key = (table, positions, layout.heads_axis)
        if key not in made:
            of_rows = table if positions is None else piece.op("Gather", table, positions, axis=0)
            made[key] = piece.op("Unsqueeze", of_rows, constant([layout.heads_axis]))  # [batch, 1, num_tokens, n / 2]
        angles.append(made[key])
    rows = piece.op("Reshape", x, constant([0, 0, layout.heads, layout.head_dim])) if layout.heads else x
    turn = _turn_neighbours if node.attributes.get_int("interleaved", 0) else _turn_halves
    out = turn(piece, rows, (angles[0], angles[1]), layout)
    if layout.heads:
        out = piece.op("Reshape", out, constant([0, 0, layout.heads * layout.head_dim]))
    piece.insert_before(node)
    take_place(out, node.outputs[0])
    graph.remove(node, safe=True)


def _turn_halves(piece: Piece, x: ir.Value, angles: tuple[ir.Value, ir.Value], layout: _Layout) -> ir.Value:
    half, rest = layout.turned // 2, layout.head_dim - layout.turned
    sizes = [half, half, rest] if rest else [half, half]
    a, b, *others = piece.op_outputs("Split", x, piece.constant(sizes), outputs=len(sizes), axis=-1)
    return piece.op("Concat", *_turned(piece, a, b, angles), *others, axis=-1)


def _turn_neighbours(piece: Piece, x: ir.Value, angles: tuple[ir.Value, ir.Value], layout: _Layout) -> ir.Value:
    rest = layout.head_dim - layout.turned
    others: list[ir.Value] = []
    if rest:
        sizes = piece.constant([layout.turned, rest])
        x, *others = piece.op_outputs("Split", x, sizes, outputs=2, axis=-1)
    pairs = piece.op("Reshape", x, piece.constant([0, 0, 0, layout.turned // 2, 2]))
    a, b = piece.op_outputs("Split", pairs, piece.constant([1, 1]), outputs=2, axis=-1)
    last = piece.constant([-1])
    cos, sin = (piece.op("Unsqueeze", angle, last) for angle in angles)
    pairs = piece.op("Concat", *_turned(piece, a, b, (cos, sin)), axis=-1)
    turned = piece.op("Reshape", pairs, piece.constant([0, 0, 0, layout.turned]))
    return piece.op("Concat", turned, *others, axis=-1) if others else turned


def _turned(piece: Piece, a: ir.Value, b: ir.Value, angles: tuple[ir.Value, ir.Value]) -> tuple[ir.Value, ir.Value]:
    op, (cos, sin) = piece.op, angles
    return op("Sub", op("Mul", a, cos), op("Mul", b, sin)), op("Add", op("Mul", a, sin), op("Mul", b, cos))
