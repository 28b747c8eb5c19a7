"""The mask prologue: computes full and windowed attention masks from the small ports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from ptgc.graphs.piece import Piece


@dataclass(frozen=True)
class RoundPorts:
    """The values that describe one round."""

    tree_mask: ir.Value  # bool [batch, num_tokens, mask_slots]
    mask_start: ir.Value  # int64 [batch]
    write_index: ir.Value  # int64 [batch]
    row_count: ir.Value  # int64 [batch]
    position_ids: ir.Value  # int64 [batch, num_tokens]


@dataclass(frozen=True)
class CacheSlots:
    """The cache slots of the layers that share a capacity."""

    count: ir.Value
    """Number of slots, or of those that attention reads, int64 []."""
    first_position: ir.Value | None = None
    """int64 `[batch]`, the position of slot 0; None if it is 0."""


@dataclass(frozen=True)
class _Seen:
    """What a round sees of some caches, before windows are applied."""

    slots: ir.Value  # [slots]
    relative: ir.Value  # [batch, slots], counted from the first slot of the mask
    visible: ir.Value  # [batch, 1, num_tokens, slots]


class AttentionMask:
    """Builds the masks of one graph; shared parts are computed once.

    ```
    cache slots   0 ..... mask_start ..... write_index ..... + num_tokens ..... mask_start + mask_slots ...
    row t sees    all     what tree_mask says, itself, and no padded row                                nothing
    ```
    Padded rows (from row_count on) see the slots below mask_start and themselves, and no other row sees them: a fully
    masked row may be NaN on some backends, and a NaN in a cache poisons later rounds.
    """

    def __init__(self, piece: Piece, ports: RoundPorts) -> None:
        self._piece = piece
        self._ports = ports
        op, constant = piece.op, piece.constant
        self._zero, self._one = constant(0), constant(1)
        self._last_axis, self._one_axis = constant([-1]), constant([1])
        self._batch_rows = op("Shape", ports.position_ids)  # [batch, num_tokens]
        self._num_tokens = op("Gather", self._batch_rows, self._one)
        self._mask_slots = op("Gather", op("Shape", ports.tree_mask), constant(2))
        self._before = op("Sub", ports.write_index, ports.mask_start)  # [batch], slots between both
        self._safe = self._safe_tree_mask()
        self._seen: dict[CacheSlots, _Seen] = {}

    def _safe_tree_mask(self) -> ir.Value:
        """tree_mask where every row sees itself, and padding only itself: int32 [batch, num_tokens, mask_slots]."""
        op = self._piece.op
        row_count = op("Unsqueeze", self._ports.row_count, self._last_axis)
        rows = op("Range", self._zero, self._num_tokens, self._one)
        row_of_slot = op("Range", self._zero, self._mask_slots, self._one)
        row_of_slot = op("Sub", row_of_slot, op("Unsqueeze", self._before, self._last_axis))  # [batch, mask_slots]
        padded = op("And", op("GreaterOrEqual", row_of_slot, row_count), op("Less", row_of_slot, self._num_tokens))
        row_of_slot = op("Unsqueeze", row_of_slot, self._one_axis)
        itself = op("Equal", row_of_slot, op("Unsqueeze", rows, self._last_axis))  # [batch, num_tokens, mask_slots]
        mask = op("And", self._ports.tree_mask, op("Unsqueeze", op("Not", padded), self._one_axis))
        mask = op("And", mask, op("Unsqueeze", op("Less", rows, row_count), self._last_axis))
        return op("Cast", op("Or", mask, itself), to=ir.DataType.INT32)

    def full(self, slots: CacheSlots) -> ir.Value:
        """The mask of layers that see every token in their caches, bool `[batch, 1, num_tokens, slots]`."""
        return self._what_is_seen(slots).visible

    def window(self, slots: CacheSlots, size: int) -> ir.Value:
        """The mask of layers that see the last `size` positions, including their own; shape as `full`.

        Other slots that the tree mask covers, besides the round's own rows, always count as inside the window.
        """
        op = self._piece.op
        seen = self._what_is_seen(slots)
        at = seen.slots
        if slots.first_position is not None:
            at = op("Add", at, op("Unsqueeze", slots.first_position, self._last_axis))
        row = op("Sub", seen.relative, op("Unsqueeze", self._before, self._last_axis))
        last = op("Sub", self._num_tokens, self._one)
        row_of_slot = op("Min", op("Max", row, self._zero), last)
        position = op("GatherElements", self._ports.position_ids, row_of_slot, axis=1)
        committed = op("Less", seen.relative, self._zero)
        position = op("Where", committed, at, position)  # the slot of a committed token gives its position
        position = op("Unsqueeze", position, self._one_axis)
        distance = op("Sub", op("Unsqueeze", self._ports.position_ids, self._last_axis), position)
        other = op("And", op("Not", committed), op("Not", op("Equal", row, row_of_slot)))
        near = op("Or", op("Less", distance, self._piece.constant(size)), op("Unsqueeze", other, self._one_axis))
        return op("And", seen.visible, op("Unsqueeze", near, self._one_axis))

    def _what_is_seen(self, slots: CacheSlots) -> _Seen:
        if slots not in self._seen:
            self._seen[slots] = self._look(slots)
        return self._seen[slots]

    def _look(self, where: CacheSlots) -> _Seen:
        op = self._piece.op
        slots = op("Range", self._zero, where.count, self._one)
        first = self._ports.mask_start
        if where.first_position is not None:
            first = op("Sub", first, where.first_position)
        relative = op("Sub", slots, op("Unsqueeze", first, self._last_axis))
        committed = op("Less", relative, self._zero)
        last = op("Sub", self._mask_slots, self._one)
        column = op("Min", op("Max", relative, self._zero), last)
        governed = op("And", op("Not", committed), op("Less", relative, self._mask_slots))
        # The mask's columns, placed at the slots: [batch, num_tokens, slots].
        shape = op("Concat", self._batch_rows, op("Shape", slots), axis=0)
        column = op("Expand", op("Unsqueeze", column, self._one_axis), shape)
        chosen = op("Cast", op("GatherElements", self._safe, column, axis=2), to=ir.DataType.BOOL)
        visible = op("And", op("Unsqueeze", governed, self._one_axis), chosen)
        visible = op("Or", op("Unsqueeze", committed, self._one_axis), visible)
        return _Seen(slots, relative, op("Unsqueeze", visible, self._one_axis))


_CAUSAL_KEY = "ptgc.causal"


def mark_causal(model: ir.Model, layers: Sequence[bool]) -> None:
    """Mark the attention of layers whose rows see no later rows, in a role where others' do.

    Their masks say the same; backends whose operators have no masks for text in order read the marks.
    """
    if not any(layers):
        return
    for node, is_marked in zip((node for node in model.graph if node.op_type == "Attention"), layers, strict=True):
        if is_marked:
            node.metadata_props[_CAUSAL_KEY] = "true"


def is_causal(attention: ir.Node) -> bool:
    """Whether a layer's attention is marked."""
    return _CAUSAL_KEY in attention.metadata_props


def capacity(piece: Piece, cache: ir.Value) -> ir.Value:
    """The slots of a cache `[batch, heads, capacity, head_dim]`, int64 []."""
    return piece.op("Gather", piece.op("Shape", cache), piece.constant(2))
