"""Rounding to 8-bit floating-point numbers."""

from __future__ import annotations

import numpy as np

from ptgc.compiler.precision.quantization.float8 import LARGEST, quantize_float8


def test_e4m3_keeps_every_weight_to_a_sixteenth_and_channels_of_any_size() -> None:
    matrix = np.random.default_rng(2).normal(size=(64, 5)).astype(np.float32)
    matrix *= np.array([1, 1000, 0, 1e-4, 1e-7], np.float32)
    numbers, scales = quantize_float8(matrix)
    assert numbers.shape == (5, 64) and (scales.astype(np.float16) > 0).all()
    found = numbers.astype(np.float32)
    assert np.isfinite(found).all() and np.abs(found[:2]).max() == LARGEST
    lost = np.abs(found.T * scales - matrix)
    assert (lost <= np.abs(matrix) / 16 + scales * 2.0**-10).all()  # below 2^-6 steps are as wide as 2^-9
