"""The canvas loop in numpy, one text at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ptgc.graphs.canvas.reference import Values
from ptgc.graphs.canvas.schedule import BlockRounds, rounds_of_block
from ptgc.graphs.canvas.uniforms import uniforms
from ptgc.spec import ports
from ptgc.spec.canvas import THRESHOLDS, CanvasPlan

Denoiser = Callable[[Values], Values]


def fill(denoiser: Denoiser, plan: CanvasPlan, given: Sequence[int]) -> tuple[list[int], int]:
    """Fill the masks of a canvas without sampling, and the random order with seed 0: the text, and the rounds it took.

    With a cache, blocks begin at multiples of their length, and each is read with its final tokens before the next.
    """
    ids, rounds = np.array([given], np.int64), 0
    masked = np.flatnonzero(ids[0] == plan.mask_token_id)
    if not masked.size:
        return ids[0].tolist(), 0
    end = int(masked[-1]) + 1
    first = int(masked[0]) // plan.block_length * plan.block_length if plan.keeps_blocks else int(masked[0])
    length = plan.block_length or end - first
    num_rounds = rounds_of_block(plan, len(range(first, end, length)))
    for start in range(0 if plan.keeps_blocks else first, end, length):
        read = slice(start, start + length) if plan.keeps_blocks else slice(None)
        canvas = ids[:, read]
        where = np.arange(ids.shape[1])[read]
        block = (where >= start) & (where < start + length)
        left = (canvas == plan.mask_token_id) & block
        schedule = BlockRounds(length, int(left.sum()), num_rounds)
        for done in range(num_rounds):
            if not left.any():
                break
            fills = schedule.fills(plan.schedule, done, int(left.sum()))
            time = np.count_nonzero(ids == plan.mask_token_id) / masked.size
            made = denoiser(_round(plan, canvas, left, fills, int(where[0]), rounds, time))
            canvas[:] = made[ports.OUTPUT_IDS.name]
            left = (canvas == plan.mask_token_id) & block
            rounds += 1
        if plan.keeps_blocks:
            denoiser(_round(plan, canvas, np.zeros_like(canvas, np.bool_), 0, start, rounds))
    return ids[0].tolist(), rounds


def first_round(plan: CanvasPlan, canvas: Sequence[int], *, fills: int) -> Values:
    """A denoiser's inputs for a canvas where every masked position may be filled, and at least `fills` of them are."""
    ids = np.array([canvas], np.int64)
    return _round(plan, ids, ids == plan.mask_token_id, fills, 0, 0)


def _round(
    plan: CanvasPlan,
    ids: NDArray[np.int64],
    masked: NDArray[np.bool_],
    fills: int,
    start: int,
    number: int,
    time: float = 1,
) -> Values:
    """Inputs of a round over texts `[batch, rows]` that all see each other and the `start` slots before them.

    They serve both kinds of denoisers: those that read texts, and language models, all of whose positions are columns.
    """
    batch, count = ids.shape
    rows = np.tile(np.arange(count), (batch, 1))
    values = {
        ports.CANVAS_IDS.name: ids.copy(),
        ports.LENGTHS.name: np.full(batch, count),
        ports.POSITION_IDS.name: start + rows,
        ports.TREE_MASK.name: np.ones((batch, count, count), np.bool_),
        ports.MASK_START.name: np.full(batch, start),
        ports.WRITE_INDEX.name: np.full(batch, start),
        ports.ROW_COUNT.name: np.full(batch, count),
        ports.WINDOW_OFFSET.name: np.zeros(batch, np.int64),
        ports.LOGITS_ROWS.name: np.maximum(rows - 1, 0) if plan.shift else rows,
        ports.COLUMN_IDS.name: ids.copy(),
        ports.TIME.name: np.full(batch, time, np.float32),
        ports.CANVAS_MASK.name: masked,
        ports.STEP.name: np.full(batch, fills),
        ports.TEMPERATURE.name: np.zeros(batch, np.float32),
    }
    if plan.policy.kind in THRESHOLDS:
        values[ports.THRESHOLD.name] = np.full(batch, plan.policy.bound, np.float32)
    if plan.policy.draws:
        values[ports.UNIFORMS.name] = uniforms(0, start + rows, number)
    return values
