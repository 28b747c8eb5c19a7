"""Rounds of several sequences of different lengths on a graph, in ONNX Runtime on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir

from tests.compiler.prepared import CAPACITY
from tests.exporters.graph_run import load
from tests.models import prompt

ROUNDS = (((24, 17), 24), ((7, 7), 7), ((1, 1), 1), ((16, 3), 16), ((1, 1), 1))
"""Valid rows of each of two sequences, and rows of the round: wide, single and padded ones."""


def batched_rounds(path: Path) -> list[np.ndarray]:
    """Logits `[rows, vocab]` of the valid rows of each sequence in each round, its cache carried along."""
    run, inputs = load(path), {value.name: value for value in ir.load(path).graph.inputs}
    batch = len(ROUNDS[0][0])
    caches = {name: _zeros(value, batch) for name, value in inputs.items() if name and name.startswith("past")}
    length = np.zeros(batch, np.int64)
    found = []
    for number, (counts, width) in enumerate(ROUNDS):
        rows = np.tile(np.arange(width), (batch, 1))
        given = {
            "input_ids": np.array([prompt(width, 10 * number + row) for row in range(batch)]),
            "position_ids": length[:, None] + rows,
            "tree_mask": np.tile(np.tri(width, dtype=np.bool_), (batch, 1, 1)),
            "mask_start": length,
            "write_index": length,
            "row_count": np.array(counts),
            "logits_rows": rows,
            "window_offset": np.zeros(batch, np.int64),  # caches hold the whole text
        }
        out = run(**caches, **{name: array for name, array in given.items() if name in inputs})
        caches = {name: out[name.replace("past_key_values", "present")] for name in caches}
        found += [logits[:count] for logits, count in zip(out["logits"], counts, strict=True)]
        length = length + counts
    return found


def _zeros(cache: ir.Value, batch: int) -> np.ndarray:
    """An empty cache; the number of its slots is its only other size without a number."""
    assert cache.shape is not None and cache.dtype is not None
    others = [size if isinstance(size, int) else CAPACITY for size in cache.shape[1:]]
    return np.zeros([batch, *others], cache.dtype.numpy())
