"""The mask prologue: small ports in, full and windowed attention masks out."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from ptgc.graphs.piece import Piece


@dataclass(frozen=True)
class RoundPorts:
    """The values that describe one round."""

    tree_mask: ir.Value  # bool [batch, num_tokens, num_tokens]
    write_index: ir.Value  # int64 [batch]
    row_count: ir.Value  # int64 [batch]
    position_ids: ir.Value  # int64 [batch, num_tokens]
    cache: ir.Value  # [batch, heads, kv_capacity, head_dim]


class AttentionMask:
    """Builds the masks of one graph; what they share is computed once.

    ```
    cache slots   0 ........ write_index ..... + num_tokens ...
    row t sees    all        itself and its    nothing
                             ancestors
    ```
    Padded rows (from row_count on) see the committed slots and themselves, never a neighbour, and no row sees them:
    a fully masked row may be NaN on some backends, and a NaN in a cache poisons later rounds.
    """

    def __init__(self, piece: Piece, ports: RoundPorts) -> None:
        self._piece = piece
        self._ports = ports
        op, constant = piece.op, piece.constant
        zero = constant(0)
        one = constant(1)
        self._last_axis, self._one_axis = constant([-1]), constant([1])
        batch_rows = op("Shape", ports.position_ids)  # [batch, num_tokens]
        num_tokens = op("Gather", batch_rows, one)
        capacity = op("Gather", op("Shape", ports.cache), constant(2))
        self._slots = op("Range", zero, capacity, one)  # [kv_capacity]
        self._relative = op("Sub", self._slots, op("Unsqueeze", ports.write_index, self._last_axis))
        self._committed = op("Less", self._relative, zero)  # [batch, kv_capacity]
        inside = op("Sub", num_tokens, one)
        self._row_of_slot = op("Min", op("Max", self._relative, zero), inside)  # [batch, kv_capacity]
        in_round = op("And", op("Not", self._committed), op("Less", self._relative, num_tokens))
        rows = op("Range", zero, num_tokens, one)
        visible = op("And", op("Unsqueeze", in_round, self._one_axis), self._ancestors(rows))
        visible = op("Or", op("Unsqueeze", self._committed, self._one_axis), visible)
        self._visible = op("Unsqueeze", visible, self._one_axis)
        self._windows: dict[int, ir.Value] = {}

    def _ancestors(self, rows: ir.Value) -> ir.Value:
        """tree_mask made safe for padded rows, its columns spread over the slots: [batch, num_tokens, kv_capacity]."""
        op = self._piece.op
        valid = op("Less", rows, op("Unsqueeze", self._ports.row_count, self._last_axis))  # [batch, num_tokens]
        mask = op("And", self._ports.tree_mask, op("Unsqueeze", valid, self._one_axis))
        itself = op("Equal", rows, op("Unsqueeze", rows, self._last_axis))  # [num_tokens, num_tokens]
        mask = op("Cast", op("Or", mask, itself), to=ir.DataType.INT32)
        column = op("Unsqueeze", self._row_of_slot, self._one_axis)  # [batch, 1, kv_capacity]
        shape = op("Concat", op("Shape", self._ports.position_ids), op("Shape", self._slots), axis=0)
        gathered = op("GatherElements", mask, op("Expand", column, shape), axis=2)
        return op("Cast", gathered, to=ir.DataType.BOOL)

    def full(self) -> ir.Value:
        """The mask of a layer that sees every committed token, bool [batch, 1, num_tokens, kv_capacity]."""
        return self._visible

    def window(self, size: int) -> ir.Value:
        """The mask of a layer that sees the last `size` positions, its own included; shape as `full`."""
        if size not in self._windows:
            op, constant = self._piece.op, self._piece.constant
            position = op("GatherElements", self._ports.position_ids, self._row_of_slot, axis=1)
            position = op("Where", self._committed, self._slots, position)  # a committed slot is its position
            position = op("Unsqueeze", position, self._one_axis)
            distance = op("Sub", op("Unsqueeze", self._ports.position_ids, self._last_axis), position)
            near = op("Unsqueeze", op("Less", distance, constant(size)), self._one_axis)
            self._windows[size] = op("And", self._visible, near)
        return self._windows[size]
