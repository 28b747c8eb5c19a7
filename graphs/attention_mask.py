"""The mask prologue: small ports in, full and windowed attention masks out."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from ptgc.graphs.piece import Piece


@dataclass(frozen=True)
class RoundPorts:
    """The values that describe one round."""

    tree_mask: ir.Value  # bool [batch, num_tokens, num_tokens]
    row_count: ir.Value  # int64 [batch]
    position_ids: ir.Value  # int64 [batch, num_tokens]


@dataclass(frozen=True)
class CacheSlots:
    """Where the layers that share a capacity keep their tokens."""

    cache: ir.Value
    """One of their caches, `[batch, heads, capacity, head_dim]`."""
    write_index: ir.Value
    """int64 `[batch]`, the slot of the round's first row."""
    first_position: ir.Value | None = None
    """int64 `[batch]`, the position of slot 0; None where it is 0."""


@dataclass(frozen=True)
class _Seen:
    """What a round sees of some caches, windows apart."""

    slots: ir.Value  # [capacity]
    committed: ir.Value  # [batch, capacity]
    row_of_slot: ir.Value  # [batch, capacity]
    visible: ir.Value  # [batch, 1, num_tokens, capacity]


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
        self._zero, self._one = constant(0), constant(1)
        self._last_axis, self._one_axis = constant([-1]), constant([1])
        self._batch_rows = op("Shape", ports.position_ids)  # [batch, num_tokens]
        self._num_tokens = op("Gather", self._batch_rows, self._one)
        self._ancestors = self._safe_tree_mask()
        self._seen: dict[CacheSlots, _Seen] = {}

    def _safe_tree_mask(self) -> ir.Value:
        """tree_mask made safe for padded rows: int32 [batch, num_tokens, num_tokens]."""
        op = self._piece.op
        rows = op("Range", self._zero, self._num_tokens, self._one)
        valid = op("Less", rows, op("Unsqueeze", self._ports.row_count, self._last_axis))  # [batch, num_tokens]
        mask = op("And", self._ports.tree_mask, op("Unsqueeze", valid, self._one_axis))
        itself = op("Equal", rows, op("Unsqueeze", rows, self._last_axis))  # [num_tokens, num_tokens]
        return op("Cast", op("Or", mask, itself), to=ir.DataType.INT32)

    def full(self, slots: CacheSlots) -> ir.Value:
        """The mask of layers that see every token in their caches, bool `[batch, 1, num_tokens, capacity]`."""
        return self._what_is_seen(slots).visible

    def window(self, slots: CacheSlots, size: int) -> ir.Value:
        """The mask of layers that see the last `size` positions, their own included; shape as `full`."""
        op = self._piece.op
        seen = self._what_is_seen(slots)
        at = seen.slots
        if slots.first_position is not None:
            at = op("Add", at, op("Unsqueeze", slots.first_position, self._last_axis))
        position = op("GatherElements", self._ports.position_ids, seen.row_of_slot, axis=1)
        position = op("Where", seen.committed, at, position)  # a committed token stands at its position
        position = op("Unsqueeze", position, self._one_axis)
        distance = op("Sub", op("Unsqueeze", self._ports.position_ids, self._last_axis), position)
        near = op("Unsqueeze", op("Less", distance, self._piece.constant(size)), self._one_axis)
        return op("And", seen.visible, near)

    def _what_is_seen(self, slots: CacheSlots) -> _Seen:
        if slots not in self._seen:
            self._seen[slots] = self._look(slots)
        return self._seen[slots]

    def _look(self, where: CacheSlots) -> _Seen:
        op = self._piece.op
        capacity = op("Gather", op("Shape", where.cache), self._piece.constant(2))
        slots = op("Range", self._zero, capacity, self._one)
        relative = op("Sub", slots, op("Unsqueeze", where.write_index, self._last_axis))
        committed = op("Less", relative, self._zero)
        last = op("Sub", self._num_tokens, self._one)
        row_of_slot = op("Min", op("Max", relative, self._zero), last)
        in_round = op("And", op("Not", committed), op("Less", relative, self._num_tokens))
        # The tree's columns spread over the slots, [batch, num_tokens, capacity].
        shape = op("Concat", self._batch_rows, op("Shape", slots), axis=0)
        column = op("Expand", op("Unsqueeze", row_of_slot, self._one_axis), shape)
        ancestors = op("Cast", op("GatherElements", self._ancestors, column, axis=2), to=ir.DataType.BOOL)
        visible = op("And", op("Unsqueeze", in_round, self._one_axis), ancestors)
        visible = op("Or", op("Unsqueeze", committed, self._one_axis), visible)
        return _Seen(slots, committed, row_of_slot, op("Unsqueeze", visible, self._one_axis))
