"""The meaning of every piece of graph, in numpy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ptgc.spec.edit import EditPlan
from ptgc.spec.tree import TreeSpec

Bool = NDArray[np.bool_]
Int = NDArray[np.int64]
Float = NDArray[np.floating]


def full_mask(tree_mask: Bool, mask_start: Int, write_index: Int, row_count: Int, capacity: int) -> Bool:
    """See `graphs.attention_mask.AttentionMask.full`."""
    batch, rows, mask_slots = tree_mask.shape
    mask = np.zeros((batch, 1, rows, capacity), dtype=np.bool_)
    for b, (first, start, valid) in enumerate(zip(mask_start, write_index, row_count, strict=True)):
        mask[b, 0, :, :first] = True
        for t in range(rows):
            for slot in range(first, min(first + mask_slots, capacity)):
                is_padding = t >= valid or valid <= slot - start < rows
                mask[b, 0, t, slot] = slot - start == t or (tree_mask[b, t, slot - first] and not is_padding)
    return mask


def window_mask(full: Bool, mask_start: Int, write_index: Int, position_ids: Int, size: int) -> Bool:
    """See `graphs.attention_mask.AttentionMask.window`; slots are positions."""
    _, _, rows, capacity = full.shape
    mask: Bool = full.copy()
    for b, (first, start) in enumerate(zip(mask_start, write_index, strict=True)):
        for t in range(rows):
            for slot in range(capacity):
                row = slot - start
                if slot < first or 0 <= row < rows:
                    position = slot if slot < first else position_ids[b, row]
                    mask[b, 0, t, slot] &= position_ids[b, t] - position < size
    return mask


def argmax(logits: Float) -> Int:
    """See `graphs.selection.argmax`."""
    ids: Int = np.argmax(logits, axis=-1).astype(np.int64)
    return ids


def top_ids(logits: Float, count: int) -> Int:
    """See `graphs.selection.top_ids`."""
    ids: Int = np.argsort(-logits, axis=-1, kind="stable")[..., :count].astype(np.int64)
    return ids


def drafts_of_heads(logits: Float, tree: TreeSpec, drafted_ids: Sequence[int] | None = None) -> Int:
    """See `graphs.selection.drafts_of_heads`."""
    drafts = []
    for row in logits:
        order = np.argsort(-row, axis=-1, kind="stable")
        drafts.append([order[depth - 1][rank] for depth, rank in zip(tree.depths[1:], tree.ranks[1:], strict=True)])
    made: Int = np.array(drafts, dtype=np.int64)
    return made if drafted_ids is None else np.array(drafted_ids)[made]


def _rows(texts: list[list[int]], columns: int, fill: int) -> tuple[Int, Int]:
    """Ragged texts as ids `[batch, columns]` and lengths `[batch]`."""
    ids = np.array([text + [fill] * (columns - len(text)) for text in texts], dtype=np.int64)
    return ids, np.array([len(text) for text in texts], dtype=np.int64)


def collapse(logits: Float, source_mask: Bool, upsampling: int, blank_token_id: int) -> tuple[Int, Int]:
    """See `graphs.ctc.collapse`."""
    texts = []
    for row, mask in zip(argmax(logits), source_mask, strict=True):
        rows = row[: int(mask.sum()) * upsampling].tolist()
        runs = [token for t, token in enumerate(rows) if t == 0 or token != rows[t - 1]]
        texts.append([token for token in runs if token != blank_token_id])
    return _rows(texts, logits.shape[1], blank_token_id)


def delete_tokens(scores: Float, ids: Int, lengths: Int, plan: EditPlan) -> tuple[Int, Int]:
    """See `graphs.edit_ops.delete_tokens`."""
    texts, kept = [], {plan.bos_token_id, plan.eos_token_id}
    for row, length, deleted in zip(ids, lengths, argmax(scores), strict=True):
        texts.append([int(row[t]) for t in range(length) if row[t] in kept or not deleted[t]])
    return _rows(texts, ids.shape[1], plan.pad_token_id)


def insert_placeholders(scores: Float, ids: Int, lengths: Int, plan: EditPlan) -> tuple[Int, Int]:
    """See `graphs.edit_ops.insert_placeholders`."""
    assert plan.placeholder_token_id is not None
    texts = []
    for row, length, numbers in zip(ids, lengths, argmax(scores), strict=True):
        new = [[plan.placeholder_token_id] * int(number) for number in numbers]
        texts.append(_with_new(row[:length], new, ids.shape[1]))
    return _rows(texts, ids.shape[1], plan.pad_token_id)


def insert_tokens(logits: Float, ids: Int, lengths: Int, plan: EditPlan) -> tuple[Int, Int]:
    """See `graphs.edit_ops.insert_tokens`."""
    logits = logits.astype(np.float32)
    stop = plan.stop_token_id
    logits[..., [one for one in (plan.bos_token_id, plan.eos_token_id, plan.pad_token_id) if one != stop]] = -np.inf
    texts = []
    for row, length, chosen in zip(ids, lengths, argmax(logits), strict=True):
        new = [[] if token == stop else [int(token)] for token in chosen]
        texts.append(_with_new(row[:length], new, ids.shape[1]))
    return _rows(texts, ids.shape[1], plan.pad_token_id)


def _with_new(text: Int, new: list[list[int]], columns: int) -> list[int]:
    """A text with new tokens after every token but the last, from the front while there is room."""
    made: list[int] = []
    room = columns - len(text)
    for t, token in enumerate(text):
        fitting = new[t][:room] if t < len(text) - 1 else []
        room -= len(fitting)
        made += [int(token), *fitting]
    return made


def fill_placeholders(logits: Float, ids: Int, lengths: Int, plan: EditPlan) -> tuple[Int, Int]:
    """See `graphs.edit_ops.fill_placeholders`."""
    assert plan.placeholder_token_id is not None
    logits = logits.astype(np.float32)
    logits[..., [plan.placeholder_token_id, plan.bos_token_id, plan.eos_token_id, plan.pad_token_id]] = -np.inf
    inside = np.arange(ids.shape[1]) < lengths[:, None]
    return np.where(inside & (ids == plan.placeholder_token_id), argmax(logits), ids), lengths
