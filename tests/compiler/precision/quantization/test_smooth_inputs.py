"""Dividing channels and multiplying the weights that read them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ptgc.compiler.graph_session import GraphSession
from ptgc.compiler.precision.quantization.activation_ranges import activation_ranges
from ptgc.compiler.precision.quantization.smooth_inputs import SmoothInputsPass, smoothing_factors
from ptgc.graphs.storage import save
from tests.compiler.prepared import CAPACITY, TEXT, canonical, normalized, role_of, traced
from tests.models import prompt


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3"])
def test_smoothing_changes_ranges_and_not_what_is_computed(family: str, tmp_path: Path) -> None:
    model, role = normalized(family), role_of(traced(family))
    ranges = activation_ranges(model, role, TEXT)
    factors = smoothing_factors(model.graph, ranges)
    assert 0 < len(factors) < len(ranges)
    smooth = SmoothInputsPass(factors)
    assert smooth(model).modified and not smooth(model).modified
    for name, one in activation_ranges(model, role, TEXT).items():
        expected = ranges[name] / factors.get(name, np.float32(1))
        np.testing.assert_allclose(one, expected, rtol=2e-3, atol=1e-5)
    save(model, tmp_path, "smoothed")
    session = GraphSession(tmp_path / "smoothed.onnx", role, CAPACITY, num_threads=1)
    np.testing.assert_allclose(
        session.prefill(prompt(24)), canonical(family, tmp_path).prefill(prompt(24)), atol=1e-3, rtol=1e-3
    )


def test_norms_and_gated_products_are_smoothed_and_what_others_read_is_not() -> None:
    model = normalized("llama")
    found = smoothing_factors(model.graph, activation_ranges(model, role_of(traced("llama")), TEXT))
    producers = {value.name: node.op_type for node in model.graph for value in node.outputs}
    assert (
        sorted(producers[name] for name in found) == ["Mul"] * 3 + ["RMSNormalization"] * 6
    )  # neither attention's result nor the head's input
