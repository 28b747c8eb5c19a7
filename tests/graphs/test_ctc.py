"""Collapsing CTC rows against its numpy meaning."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from ptgc.graphs import reference
from ptgc.graphs.ctc import collapse
from ptgc.graphs.piece import Piece
from tests.graphs.run_piece import run_piece

BLANK = 2


def _run(logits: np.ndarray, mask: np.ndarray, upsampling: int) -> list[np.ndarray]:
    def build(piece: Piece, logits: ir.Value, mask: ir.Value) -> list[ir.Value]:
        ids, lengths = collapse(piece, logits, mask, upsampling, BLANK)
        ids.dtype = lengths.dtype = ir.DataType.INT64
        return [ids, lengths]

    return run_piece(build, logits, mask)


def _choosing(rows: list[list[int]]) -> np.ndarray:
    return np.eye(6, dtype=np.float32)[np.array(rows)]


def test_repeats_are_dropped_before_blanks() -> None:
    rows = [[3, 3, BLANK, 3, 4, 4], [BLANK, BLANK, 5, BLANK, 5, 5], [BLANK] * 6, [0, 1, 0, 1, 0, 1]]
    ids, lengths = _run(_choosing(rows), np.ones((4, 3), bool), 2)
    assert lengths.tolist() == [3, 2, 0, 6]
    assert ids.tolist() == [[3, 3, 4] + [BLANK] * 3, [5, 5] + [BLANK] * 4, [BLANK] * 6, rows[3]]


@pytest.mark.parametrize("upsampling", [1, 2, 3])
def test_rows_of_the_sources_padding_are_not_read(upsampling: int) -> None:
    rng = np.random.default_rng(upsampling)
    lengths = np.array([5, 3, 1, 0])
    logits = rng.normal(size=(4, 5 * upsampling, 6)).astype(np.float32)
    mask = np.arange(5) < lengths[:, None]
    found = _run(logits, mask, upsampling)
    for one, expected in zip(found, reference.collapse(logits, mask, upsampling, BLANK), strict=True):
        np.testing.assert_array_equal(one, expected)
