"""Deleting, inserting and filling against their numpy meaning."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from ptgc.graphs import edit_ops, reference
from ptgc.graphs.edit_ops import EditedCanvas
from ptgc.graphs.piece import Piece
from ptgc.spec.edit import EditPlan
from tests.graphs.run_piece import run_piece

PAD, BOS, EOS, HOLE = 0, 1, 2, 3
STOP = 4
PLAN = EditPlan(("x",), 10, BOS, EOS, PAD, placeholder_token_id=HOLE, stop_token_id=STOP)
LENGTHS = np.array([10, 6, 2, 0])
OPERATIONS = ("delete_tokens", "insert_placeholders", "fill_placeholders", "insert_tokens")


def _run(operation: str, scores: np.ndarray, ids: np.ndarray, lengths: np.ndarray = LENGTHS) -> list[np.ndarray]:
    function: Callable[..., EditedCanvas] = getattr(edit_ops, operation)

    def build(piece: Piece, scores: ir.Value, *canvas: ir.Value) -> list[ir.Value]:
        made = function(piece, scores, EditedCanvas(*canvas), PLAN)
        made.ids.dtype = made.lengths.dtype = ir.DataType.INT64
        return [made.ids, made.lengths]

    return run_piece(build, scores, ids, lengths)


def _canvases(rng: np.random.Generator) -> np.ndarray:
    ids = rng.integers(3, 12, (4, 10))
    ids[:, 0] = BOS
    for row, length in zip(ids, LENGTHS, strict=True):
        row[length:] = PAD
        row[length - 1 : length] = EOS
    return ids


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_ragged_batch_is_edited_as_numpy_does(operation: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    columns = {"delete_tokens": 2, "insert_placeholders": 4, "fill_placeholders": 12, "insert_tokens": 12}[operation]
    scores, ids = rng.normal(size=(4, 10, columns)).astype(np.float32), _canvases(rng)
    if operation == "insert_placeholders":
        scores[..., 0] += 1.5  # otherwise every canvas would be full at once
    if operation == "insert_tokens":
        scores[..., STOP] += 2
    found = _run(operation, scores, ids)
    for one, expected in zip(found, getattr(reference, operation)(scores, ids, LENGTHS, PLAN), strict=True):
        np.testing.assert_array_equal(one, expected)


def test_begin_and_end_stay_whatever_is_scored() -> None:
    scores = np.tile(np.array([0, 1], np.float32), (1, 5, 1))
    ids, lengths = _run("delete_tokens", scores, np.array([[BOS, 7, 8, EOS, PAD]]), np.array([4]))
    assert ids.tolist() == [[BOS, EOS, PAD, PAD, PAD]] and lengths.tolist() == [2]


def test_placeholders_stop_where_the_canvas_is_full() -> None:
    scores = np.tile(np.array([0, 0, 1], np.float32), (1, 6, 1))  # two after every token
    ids, lengths = _run("insert_placeholders", scores, np.array([[BOS, 7, EOS, PAD, PAD, PAD]]), np.array([3]))
    assert ids.tolist() == [[BOS, HOLE, HOLE, 7, HOLE, EOS]] and lengths.tolist() == [6]


def test_a_placeholder_is_never_filled_with_a_special_token() -> None:
    logits = np.zeros((1, 4, 8), np.float32)
    logits[..., :4], logits[..., 6] = 9, 1
    ids, _ = _run("fill_placeholders", logits, np.array([[BOS, HOLE, EOS, HOLE]]), np.array([3]))
    assert ids.tolist() == [[BOS, 6, EOS, HOLE]]


def test_one_token_at_most_comes_behind_each_and_none_behind_the_last() -> None:
    logits = np.zeros((1, 8, 8), np.float32)
    logits[0, [0, 1, 2, 3], [5, STOP, 6, 7]] = 1
    logits[..., [BOS, EOS, PAD]] = 9  # never inserted
    ids, lengths = _run("insert_tokens", logits, np.array([[BOS, 7, 7, EOS, PAD, PAD, PAD, PAD]]), np.array([4]))
    assert ids.tolist() == [[BOS, 5, 7, 7, 6, EOS, PAD, PAD]] and lengths.tolist() == [6]


def test_tokens_stop_where_the_canvas_is_full() -> None:
    logits = np.zeros((1, 5, 8), np.float32)
    logits[..., 6] = 1
    ids, lengths = _run("insert_tokens", logits, np.array([[BOS, 7, 7, EOS, PAD]]), np.array([4]))
    assert ids.tolist() == [[BOS, 6, 7, 7, EOS]] and lengths.tolist() == [5]
