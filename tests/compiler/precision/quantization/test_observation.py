"""Statistics of a graph over a text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ptgc.compiler.precision.quantization import second_moments as module
from ptgc.compiler.precision.quantization.observation import linear_points, observe
from ptgc.graphs.linear import linears
from tests.compiler.prepared import TEXT, normalized, prepared_model, role_of, traced


@pytest.mark.parametrize("portion_bytes", [1, 1 << 15, 1 << 30])
def test_portions_give_what_all_together_give_and_only_one_is_in_memory(portion_bytes: int, tmp_path: Path) -> None:
    model, role = prepared_model("llama", tmp_path)
    points = linear_points(model)
    (all_together,) = (dict(one) for one in observe(model, role, TEXT, points, module._MOMENTS))
    before, seen = {}, []
    for portion in observe(model, role, TEXT, points, module._MOMENTS, portion_bytes):
        assert not before
        seen += list(portion)
        for name, array in portion.items():
            np.testing.assert_array_equal(array, all_together[name])
        before = portion
        assert len(portion) == 1 or sum(array.nbytes for array in portion.values()) <= portion_bytes
    assert seen == [point.name for point in points]


def test_the_graph_may_change_between_portions() -> None:
    model, role = normalized("llama"), role_of(traced("llama"))
    points = linear_points(model)
    (expected,) = (dict(one) for one in observe(model, role, TEXT, points, module._MOMENTS))
    for portion in observe(model, role, TEXT, points, module._MOMENTS, 1):
        for linear in linears(model.graph):
            linear.node.replace_input_with(0, model.graph.inputs[0])
        for name, array in portion.items():
            np.testing.assert_array_equal(array, expected[name])


def test_no_text_gives_nothing() -> None:
    model = normalized("llama")
    assert not list(observe(model, role_of(traced("llama")), [], linear_points(model), module._MOMENTS))
