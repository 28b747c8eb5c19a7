"""Rounding experts for the rows that were sent to them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ptgc.compiler.graph_session import GraphSession
from ptgc.compiler.precision.quantization import round_experts as module
from ptgc.compiler.precision.quantization.quantizer import Quantizer
from ptgc.compiler.precision.quantization.round_experts import round_experts
from ptgc.compiler.precision.quantization.round_matrix import round_matrix
from ptgc.compiler.precision.quantization.weight_format import Numbers, WeightFormat
from ptgc.graphs.experts import Experts, mixtures
from ptgc.graphs.storage import save, serialize
from tests.compiler.prepared import CAPACITY, normalized, role_of, traced
from tests.models import prompt

TEXT = [prompt(80, seed) for seed in range(4)]
INT4, INT8 = WeightFormat(4, (32, 16)), WeightFormat(8, ())
FLOAT8 = WeightFormat(8, (), Numbers.FLOAT)
FAMILIES = ("mixtral", "qwen3_moe")


def routed(family: str, folder: Path) -> Iterator[tuple[Experts, dict[str, np.ndarray]]]:
    """The inputs and choices of every mixture on the text, by the names of its values."""
    model = normalized(family)
    found = mixtures(model.graph)
    values = [value for experts in found for value in (experts.rows, experts.inner, experts.table)]
    model.graph.outputs.extend(values)
    save(model, folder, "watched")
    session = GraphSession(folder / "watched.onnx", role_of(traced(family)), CAPACITY, num_threads=1)
    runs = []
    for sequence in TEXT:
        session.reset()
        runs.append(session.observe(sequence, [str(value.name) for value in values]))
    for number, experts in enumerate(found):
        names = ("rows", "inner", "table")
        joined = [np.concatenate([run[3 * number + index] for run in runs], axis=1) for index in range(3)]
        yield experts, dict(zip(names, joined, strict=True))


@pytest.mark.parametrize("family", FAMILIES)
def test_moments_are_those_of_the_rows_that_chose_an_expert(family: str, tmp_path: Path) -> None:
    model, role = normalized(family), role_of(traced(family))
    wanted: dict[tuple[str, int], np.ndarray] = {}
    for experts, seen in routed(family, tmp_path):
        for stack, rows in ((experts.gate_up, seen["rows"]), (experts.down, seen["inner"])):
            for expert in range(stack.shape[0]):
                own = rows[min(expert, len(rows) - 1)] * seen["table"][expert]
                if (seen["table"][expert] != 0).sum() >= stack.shape[2] / 4:
                    wanted[str(stack.value.name), expert] = own.T @ own
    before = serialize(model)
    found = {
        (str(stack.value.name), expert): moments.copy()
        for stack, expert, moments in module._routed_moments(model, role, TEXT, mixtures(model.graph))
    }
    assert serialize(model) == before
    assert set(found) == set(wanted) and found
    for key, moments in found.items():
        np.testing.assert_allclose(moments, wanted[key], rtol=1e-3, atol=1e-3 * np.abs(moments).max())


@pytest.mark.parametrize("weight_format", [INT4, INT8, FLOAT8])
def test_experts_with_a_text_are_rounded_by_gptq_and_those_of_few_rows_to_the_nearest(
    weight_format: WeightFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, role = normalized("mixtral"), role_of(traced("mixtral"))
    plain = round_experts(model, role, [], weight_format, Quantizer.GPTQ)
    assert len(plain) == 2 * len(role.states) and all(len(one) == 4 for one in plain.values())
    for experts in mixtures(model.graph):
        matrix = experts.down.array()[1].T
        size = matrix.shape[0] if weight_format.per_channel else 32
        numbers, scales = round_matrix(matrix, weight_format, size, Quantizer.RTN)
        np.testing.assert_array_equal(plain[experts.down.value][1][0], numbers)
        np.testing.assert_array_equal(plain[experts.down.value][1][1], scales)
    calibrated = round_experts(model, role, TEXT, weight_format, Quantizer.GPTQ)
    assert any((calibrated[value][0][0] != one[0][0]).any() for value, one in plain.items())
    monkeypatch.setattr(module, "_LEAST_ROWS", 1e6)
    for value, experts_numbers in round_experts(model, role, TEXT, weight_format, Quantizer.GPTQ).items():
        for one, other in zip(experts_numbers, plain[value], strict=True):
            np.testing.assert_array_equal(one[0], other[0])


def test_models_without_experts_and_formats_that_divide_nothing_have_none() -> None:
    assert round_experts(normalized("llama"), role_of(traced("llama")), TEXT, INT8, Quantizer.GPTQ) == {}
    odd = WeightFormat(8, (48,))
    assert round_experts(normalized("mixtral"), role_of(traced("mixtral")), [], odd, Quantizer.GPTQ) == {}
