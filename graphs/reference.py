"""The meaning of every piece of graph, in numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ptgc.spec.edit import EditPlan

Bool = NDArray[np.bool_]
Int = NDArray[np.int64]
Float = NDArray[np.floating]


def full_mask(tree_mask: Bool, write_index: Int, row_count: Int, capacity: int) -> Bool:
    """See `graphs.attention_mask.AttentionMask.full`."""
    batch, rows, _ = tree_mask.shape
    mask = np.zeros((batch, 1, rows, capacity), dtype=np.bool_)
    for b in range(batch):
        start = int(write_index[b])
        mask[b, 0, :, :start] = True
        for t in range(rows):
            for u in range(rows):
                seen = u == t or (bool(tree_mask[b, t, u]) and u < row_count[b])
                if seen and start + u < capacity:
                    mask[b, 0, t, start + u] = True
    return mask


def window_mask(full: Bool, write_index: Int, position_ids: Int, size: int) -> Bool:
    """See `graphs.attention_mask.AttentionMask.window`."""
    batch, _, rows, capacity = full.shape
    mask: Bool = full.copy()
    for b in range(batch):
        start = int(write_index[b])
        positions = [s if s < start else int(position_ids[b, min(s - start, rows - 1)]) for s in range(capacity)]
        for t in range(rows):
            mask[b, 0, t] &= position_ids[b, t] - np.array(positions) < size
    return mask


def argmax(logits: Float) -> Int:
    """See `graphs.selection.argmax`."""
    ids: Int = np.argmax(logits, axis=-1).astype(np.int64)
    return ids


def top_k(logits: Float, k: int) -> tuple[Float, Int]:
    """See `graphs.selection.top_k`."""
    order = np.argsort(-logits, axis=-1, kind="stable")[..., :k].astype(np.int64)
    return np.take_along_axis(logits, order, axis=-1), order


def compact_rows(cache: Float, keep_rows: Int, write_index: Int) -> Float:
    """See `graphs.kv_cache.compact_rows`."""
    result: Float = cache.copy()
    for b, rows in enumerate(keep_rows):
        start = int(write_index[b])
        result[b, :, start : start + len(rows)] = cache[b][:, rows]
    return result


def fill_most_confident(
    logits: Float, ids: Int, lengths: Int, mask: Bool, step: Int, threshold: Float, mask_token_id: int
) -> tuple[Int, Bool, Float]:
    """See `graphs.canvas.fill_most_confident`."""
    logits = logits.astype(np.float32)
    logits[..., mask_token_id] = -np.inf
    weight = np.exp(logits - logits.max(axis=-1, keepdims=True))
    confidence = (weight / weight.sum(axis=-1, keepdims=True)).max(axis=-1)
    ids, mask = ids.copy(), mask.copy()
    for b, length in enumerate(lengths):
        order = sorted((-confidence[b, t], t) for t in range(length) if mask[b, t])
        for rank, (_, t) in enumerate(order):
            if rank < step[b] or confidence[b, t] > threshold[b]:
                ids[b, t], mask[b, t] = logits[b, t].argmax(), False
    return ids, mask, confidence


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
    texts = []
    for row, length, numbers in zip(ids, lengths, argmax(scores), strict=True):
        text: list[int] = []
        room = ids.shape[1] - int(length)
        for t in range(length):
            number = min(int(numbers[t]), room) if t < length - 1 else 0
            room -= number
            text += [int(row[t])] + [plan.placeholder_token_id] * number
        texts.append(text)
    return _rows(texts, ids.shape[1], plan.pad_token_id)


def fill_placeholders(logits: Float, ids: Int, lengths: Int, plan: EditPlan) -> tuple[Int, Int]:
    """See `graphs.edit_ops.fill_placeholders`."""
    logits = logits.astype(np.float32)
    logits[..., [plan.placeholder_token_id, plan.bos_token_id, plan.eos_token_id, plan.pad_token_id]] = -np.inf
    inside = np.arange(ids.shape[1]) < lengths[:, None]
    return np.where(inside & (ids == plan.placeholder_token_id), argmax(logits), ids), lengths
