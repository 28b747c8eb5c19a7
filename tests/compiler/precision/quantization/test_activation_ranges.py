"""Ranges over a text."""

from __future__ import annotations

import numpy as np

from ptgc.compiler.precision.quantization.activation_ranges import activation_ranges
from ptgc.compiler.precision.quantization.second_moments import second_moments
from ptgc.graphs.linear import linears
from ptgc.graphs.storage import serialize
from tests.compiler.prepared import normalized, role_of, traced


def test_ranges_are_the_largest_magnitudes_of_each_channel() -> None:
    model = normalized("llama")
    role = role_of(traced("llama"))
    before = serialize(model)
    ranges = [activation_ranges(model, role, [[token]]) for token in (5, 9)]
    assert serialize(model) == before
    assert set(ranges[0]) == {linear.input_name for linear in linears(model.graph)}
    (of_one_row,) = (dict(one) for one in second_moments(model, role, [[5]]))
    for name, moments in of_one_row.items():
        np.testing.assert_allclose(np.square(ranges[0][name]), moments.diagonal(), rtol=1e-5)
    for name, one in activation_ranges(model, role, [[5], [9]]).items():
        np.testing.assert_allclose(one, np.maximum(ranges[0][name], ranges[1][name]), rtol=1e-5)
    assert activation_ranges(model, role, []) == {}
