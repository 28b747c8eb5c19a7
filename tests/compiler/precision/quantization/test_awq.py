"""Scaling channels up before their weights are rounded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from ptgc.compiler.graph_session import GraphSession
from ptgc.compiler.precision.quantization import awq
from ptgc.compiler.precision.quantization.awq import scale_channels
from ptgc.compiler.precision.quantization.quantizer import Quantizer
from ptgc.compiler.precision.quantization.rounding import quantize_blocks
from ptgc.compiler.precision.quantization.weight_format import WeightFormat
from ptgc.graphs.linear import linears
from ptgc.graphs.storage import save, serialize
from tests.compiler.precision.quantization.matrices import lost, on_grid, restored
from tests.compiler.prepared import CAPACITY, TEXT, canonical, normalized, role_of, traced
from tests.models import prompt

INT4 = WeightFormat(4, (32,))


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3"])
def test_scaling_changes_weights_and_not_what_is_computed(family: str, tmp_path: Path) -> None:
    model, role = normalized(family), role_of(traced(family))
    before = {linear.node.name: linear.weight.name for linear in linears(model.graph)}
    scale_channels(model, role, TEXT, INT4, Quantizer.AWQ)
    assert before != {linear.node.name: linear.weight.name for linear in linears(model.graph)}
    save(model, tmp_path, "scaled")
    session = GraphSession(tmp_path / "scaled.onnx", role, CAPACITY, num_threads=1)
    expected = canonical(family, tmp_path).prefill(prompt(24))
    np.testing.assert_allclose(session.prefill(prompt(24)), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("quantizer", "text"), [(Quantizer.GPTQ, TEXT), (Quantizer.RTN, TEXT), (Quantizer.AWQ, [])])
def test_nothing_is_scaled_without_a_text_or_by_others(quantizer: Quantizer, text: list[list[int]]) -> None:
    model = normalized("llama")
    before = serialize(model)
    scale_channels(model, role_of(traced("llama")), text, INT4, quantizer)
    assert serialize(model) == before


def test_a_scaled_matrix_loses_less_where_a_few_channels_are_large() -> None:
    generator = np.random.default_rng(1)
    inputs = generator.normal(size=(512, 128)).astype(np.float32)
    inputs[:, ::16] *= 20
    matrix = generator.normal(size=(128, 40)).astype(np.float32)
    factors = awq._factors([matrix], inputs.T @ inputs, INT4)
    assert factors is not None and factors[::16].min() > np.delete(factors, np.s_[::16]).max()
    scaled = quantize_blocks(matrix * factors[:, None], 4, 32)
    found = restored(*scaled) / factors[:, None]
    error = float(np.square(inputs @ (found - matrix)).mean())
    assert error < 0.6 * lost(*quantize_blocks(matrix, 4, 32), matrix, inputs)


def test_matrices_on_a_grid_and_inputs_that_are_all_alike_are_not_scaled() -> None:
    inputs = np.random.default_rng(1).normal(size=(512, 128)).astype(np.float32)
    inputs[:, ::16] *= 20
    assert awq._factors([on_grid(4, 32, rows=128)], inputs.T @ inputs, INT4) is None
    matrix = np.random.default_rng(2).normal(size=(128, 40)).astype(np.float32)
    assert awq._factors([matrix], np.eye(128, dtype=np.float32), INT4) is None


def test_a_channel_that_is_always_zero_is_scaled_by_a_finite_number() -> None:
    inputs = np.random.default_rng(1).normal(size=(512, 128)).astype(np.float32)
    inputs[:, ::16] *= 20
    inputs[:, 1::2] = 0
    matrix = np.random.default_rng(2).normal(size=(128, 40)).astype(np.float32)
    factors = awq._factors([matrix], inputs.T @ inputs, INT4)
    assert factors is not None and np.isfinite(factors).all() and (factors > 0).all()


def test_tied_matrices_are_left_alone() -> None:
    model = normalized("llama")
    head = linears(model.graph)[-1].weight
    before = head.const_value
    scale_channels(model, role_of(traced("llama")), TEXT, INT4, Quantizer.AWQ)
    assert linears(model.graph)[-1].weight is head and head.const_value is before
    assert isinstance(model, ir.Model)
