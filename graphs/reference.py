"""The meaning of every piece of graph, in numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
