"""Matrices and inputs to quantise."""

from __future__ import annotations

import numpy as np


def correlated(rows: int, samples: int) -> np.ndarray:
    """Inputs `[samples, rows]` that lie near a few directions, as hidden states do."""
    generator = np.random.default_rng(1)
    directions = generator.normal(size=(rows // 8, rows))
    noise = 0.1 * generator.normal(size=(samples, rows))
    return (generator.normal(size=(samples, rows // 8)) @ directions + noise).astype(np.float32)


def on_grid(bits: int, group: int, *, rows: int = 256, columns: int = 40, largest: int | None = None) -> np.ndarray:
    """A matrix `[in, out]` of integers times scales that half precision has, one for each group of inputs."""
    generator = np.random.default_rng(bits + group)
    largest = (1 << (bits - 1)) - 1 if largest is None else largest
    integers = generator.integers(-largest, largest + 1, size=(rows // group, group, columns))
    integers[:, 0] = largest
    scales = generator.uniform(0.002, 0.02, size=(rows // group, 1, columns)).astype(np.float16)
    matrix: np.ndarray = (integers * scales.astype(np.float32)).reshape(rows, columns)
    return matrix.astype(np.float32)


def restored(numbers: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The matrix `[in, out]` of integers `[out, in]` and scales `[out, in / block_size]` or `[out]`."""
    blocks: np.ndarray = numbers.astype(np.float32).reshape(len(numbers), scales[0].size, -1)
    found: np.ndarray = (blocks * scales.reshape(len(numbers), -1)[..., None]).reshape(numbers.shape).T
    return found


def lost(numbers: np.ndarray, scales: np.ndarray, matrix: np.ndarray, inputs: np.ndarray) -> float:
    """The mean square error of the products of inputs with a rounded matrix."""
    return float(np.square(inputs @ (restored(numbers, scales) - matrix)).mean())
