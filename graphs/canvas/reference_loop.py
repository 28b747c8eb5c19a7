"""The canvas loop in numpy, one text at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from ptgc.graphs.canvas.reference import Values
from ptgc.graphs.canvas.schedule import BlockRounds, rounds_of_block
from ptgc.graphs.canvas.slots import CanvasSlots, Rows
from ptgc.graphs.canvas.uniforms import uniforms
from ptgc.spec import ports
from ptgc.spec.canvas import THRESHOLDS, CanvasPlan

Denoiser = Callable[[Values], Values]


def fill(denoiser: Denoiser, plan: CanvasPlan, given: Sequence[int]) -> tuple[list[int], int]:
    """Fill the masks of a canvas without sampling, and the random order with seed 0: the text, and the rounds it took.

    With a cache of blocks, these begin at multiples of their length, and each is read with its final tokens before the
    next.
    """
    ids, rounds = np.array([given], np.int64), 0
    places = np.flatnonzero(ids[0] == plan.mask_token_id)
    if not places.size:
        return ids[0].tolist(), 0
    end = int(places[-1]) + 1
    first = int(places[0]) // plan.block_length * plan.block_length if plan.keeps_blocks else int(places[0])
    length = plan.block_length or end - first
    num_rounds = rounds_of_block(plan, len(range(first, end, length)))
    slots = CanvasSlots(plan, ids.shape[1])
    for start in range(0 if plan.keeps_blocks else first, end, length):
        block = range(start, min(start + length, ids.shape[1] if plan.keeps_blocks else end))
        masked = _masked(ids, plan, block)
        schedule = BlockRounds(length, int(masked.sum()), num_rounds)
        for done in range(num_rounds):
            if not masked.any():
                break
            fills = schedule.fills(plan.schedule, done, int(masked.sum()))
            rows = slots.read(ids[0] == plan.mask_token_id, block, done, rounds)
            time = np.count_nonzero(ids == plan.mask_token_id) / places.size
            made = denoiser(_round(plan, ids, masked, fills, rows, rounds, time))
            ids[:, rows.positions] = made[ports.OUTPUT_IDS.name]
            masked = _masked(ids, plan, block)
            rounds += 1
        if plan.keeps_blocks:
            rows = slots.read(ids[0] == plan.mask_token_id, block, num_rounds, rounds)
            denoiser(_round(plan, ids, masked, 0, rows, rounds))
    return ids[0].tolist(), rounds


def _masked(ids: NDArray[np.int64], plan: CanvasPlan, block: range) -> NDArray[np.bool_]:
    """Which positions of a block are masked: bool, of the text's shape."""
    found: NDArray[np.bool_] = ids == plan.mask_token_id
    found[:, : block.start] = found[:, block.stop :] = False
    return found


def first_round(plan: CanvasPlan, canvas: Sequence[int], *, fills: int) -> Values:
    """A denoiser's inputs for a canvas where every masked position may be filled, and at least `fills` of them are."""
    ids = np.array([canvas], np.int64)
    rows = Rows(np.arange(ids.shape[1]), 0)
    return _round(plan, ids, ids == plan.mask_token_id, fills, rows, 0)


def _round(
    plan: CanvasPlan,
    ids: NDArray[np.int64],
    masked: NDArray[np.bool_],
    fills: int,
    read: Rows,
    number: int,
    time: float = 1,
) -> Values:
    """Inputs of a round of texts `[batch, length]` whose rows all see each other and the slots before them.

    They serve both kinds of denoisers: those that read texts, and language models, all of whose rows are columns.
    """
    positions = np.tile(read.positions, (len(ids), 1))
    batch, count = positions.shape
    rows = np.tile(np.arange(count), (batch, 1))
    before = np.where(positions == 0, rows, np.maximum(rows - 1, 0))  # predicts a position, if it is masked
    read_ids = ids[:, read.positions]
    values = {
        ports.CANVAS_IDS.name: read_ids.copy(),
        ports.LENGTHS.name: np.full(batch, count),
        ports.POSITION_IDS.name: positions,
        ports.TREE_MASK.name: np.ones((batch, count, count), np.bool_),
        ports.MASK_START.name: np.full(batch, read.first_slot),
        ports.WRITE_INDEX.name: np.full(batch, read.first_slot),
        ports.ROW_COUNT.name: np.full(batch, count),
        ports.WINDOW_OFFSET.name: np.zeros(batch, np.int64),
        ports.LOGITS_ROWS.name: before if plan.shift else rows,
        ports.COLUMN_IDS.name: read_ids.copy(),
        ports.CANVAS_MASK.name: masked[:, read.positions],
        ports.TIME.name: np.full(batch, time, np.float32),
        ports.STEP.name: np.full(batch, fills),
        ports.TEMPERATURE.name: np.zeros(batch, np.float32),
    }
    if plan.policy.kind in THRESHOLDS:
        values[ports.THRESHOLD.name] = np.full(batch, plan.policy.bound, np.float32)
    if plan.policy.draws:
        values[ports.UNIFORMS.name] = uniforms(0, positions, number)
    return values
