"""Filling a canvas against its numpy meaning."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from ptgc.graphs import reference
from ptgc.graphs.canvas import Columns, fill_most_confident
from ptgc.graphs.piece import Piece
from tests.graphs.run_piece import run_piece

MASK = 4
LENGTHS = np.array([9, 5, 1, 0])


def _fill(piece: Piece, logits: ir.Value, *canvas: ir.Value) -> list[ir.Value]:
    filled = fill_most_confident(piece, logits, Columns(*canvas), MASK)
    filled.output_ids.dtype, filled.num_masked.dtype = ir.DataType.INT64, ir.DataType.INT64
    filled.confidence.dtype = ir.DataType.FLOAT
    return [filled.output_ids, filled.num_masked, filled.confidence]


def _round(seed: int, step: list[int], threshold: list[float]) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(4, 9, 11), scale=3).astype(np.float32)
    logits[..., MASK] = 20  # the most likely of all, but never chosen
    mask = (rng.random((4, 9)) < 0.7) & (np.arange(9) < LENGTHS[:, None])
    ids = np.where(mask, MASK, rng.integers(5, 11, (4, 9)))
    return [logits, ids, mask, np.array(step), np.array(threshold, np.float32)]


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize(
    ("step", "threshold"),
    [([1, 1, 1, 1], [1, 1, 1, 1]), ([3, 2, 9, 0], [1, 1, 1, 1]), ([1, 0, 1, 1], [0.8, 0.5, 0.0, 0.1])],
)
def test_the_most_confident_masked_positions_are_filled(seed: int, step: list[int], threshold: list[float]) -> None:
    arrays = _round(seed, step, threshold)
    ids, num_masked, confidence = run_piece(_fill, *arrays)
    expected = reference.fill_most_confident(*arrays, mask_token_id=MASK)
    np.testing.assert_array_equal(ids, expected[0])
    np.testing.assert_array_equal(num_masked, expected[1])
    np.testing.assert_array_equal(num_masked, (arrays[2] & (ids == MASK)).sum(axis=1))
    np.testing.assert_allclose(confidence, expected[2], rtol=1e-5)


def test_of_equally_confident_positions_the_lower_comes_first() -> None:
    arrays = _round(0, [4, 2, 1, 1], [1, 1, 1, 1])
    arrays[0][:] = arrays[0][0, 0]
    ids, _, _ = run_piece(_fill, *arrays)
    candidates = [np.flatnonzero(arrays[2][b]) for b in range(4)]
    for b, step in enumerate([4, 2, 1, 1]):
        filled = np.flatnonzero(arrays[2][b] & (ids[b] != MASK))
        np.testing.assert_array_equal(filled, candidates[b][:step])
        assert (ids[b, filled] != MASK).all()


def test_what_is_not_to_be_filled_stays_as_it_is() -> None:
    arrays = _round(1, [9, 9, 9, 9], [1, 1, 1, 1])
    ids, num_masked, _ = run_piece(_fill, *arrays)
    np.testing.assert_array_equal(ids[~arrays[2]], arrays[1][~arrays[2]])
    assert not num_masked.any()
