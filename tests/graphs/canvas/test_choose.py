"""Filling a canvas against its numpy meaning, and that against what policies are defined by."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptgc.graphs.canvas import reference
from ptgc.graphs.canvas.choose import choose
from ptgc.graphs.piece import Piece
from ptgc.graphs.values import input_value
from ptgc.spec import ports
from ptgc.spec.canvas import THRESHOLDS, CanvasPlan, ConfidenceOf, PolicyKind, PolicyPlan
from ptgc.spec.ports import IR_VERSION, OPSET
from ptgc.spec.role_ports import policy_inputs

MASK = 4
VOCAB = 11
LENGTHS = np.array([9, 5, 1, 0])
Values = dict[str, np.ndarray]
POLICIES = [
    PolicyPlan(kind, sampled=sampled, confidence_of=confidence)
    for kind in PolicyKind
    if kind is not PolicyKind.OWN
    for sampled, confidence in [(False, ConfidenceOf.MODEL), (True, ConfidenceOf.MODEL), (True, ConfidenceOf.SAMPLED)]
]


def _plan(policy: PolicyPlan) -> CanvasPlan:
    return CanvasPlan(MASK, 4, policy=policy)


@cache
def _session(policy: PolicyPlan) -> Any:
    inputs = {port.name: input_value(port) for port in policy_inputs(_plan(policy), columns=True)}
    logits = ir.val("logits", ir.DataType.FLOAT, ir.Shape([ports.BATCH, ports.NUM_LOGITS, VOCAB]))
    ids = input_value(ports.COLUMN_IDS)
    piece = Piece("piece")
    made = choose(piece, logits, ids, inputs, _plan(policy))
    outputs = (made.output_ids, made.num_masked, made.confidence)
    for value, port in zip(outputs, (ports.COLUMN_OUTPUT_IDS, ports.NUM_MASKED, ports.COLUMN_CONFIDENCE), strict=True):
        value.name, value.dtype = port.name, ir.DataType[port.dtype.name if port.dtype.name != "FLOAT32" else "FLOAT"]
    graph = ir.Graph([logits, ids, *inputs.values()], outputs, nodes=piece.nodes, opset_imports={"": OPSET})
    model = ir.to_proto(ir.Model(graph, ir_version=IR_VERSION)).SerializeToString()
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])


def _run(policy: PolicyPlan, logits: np.ndarray, ids: np.ndarray, values: Values) -> Values:
    """The graph's outputs, which must be those of its numpy meaning."""
    session = _session(policy)
    known = {one.name for one in session.get_inputs()}
    inputs = {"logits": logits, "column_ids": ids} | {name: one for name, one in values.items() if name in known}
    made = dict(zip([one.name for one in session.get_outputs()], session.run(None, inputs), strict=True))
    expected = reference.choose(logits, ids, values, _plan(policy))
    np.testing.assert_array_equal(made["output_ids"], expected["output_ids"])
    np.testing.assert_array_equal(made["num_masked"], expected["num_masked"])
    np.testing.assert_allclose(made["confidence"], expected["confidence"], rtol=1e-4, atol=1e-7)
    return made


def _round(seed: int, step: list[int], threshold: list[float], temperature: float = 0) -> tuple[Any, Any, Values]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(4, 9, VOCAB), scale=3).astype(np.float32)
    logits[..., MASK] = 20  # the most likely of all, but never chosen
    mask = (rng.random((4, 9)) < 0.7) & (np.arange(9) < LENGTHS[:, None])
    ids = np.where(mask, MASK, rng.integers(5, VOCAB, (4, 9)))
    values = {
        "canvas_mask": mask,
        "step": np.array(step),
        "threshold": np.array(threshold, np.float32),
        "temperature": np.array([temperature, 0, temperature, temperature], np.float32),
        "uniforms": rng.integers(0, 1 << 23, (4, 9, 2)).astype(np.float32) * np.float32(2**-23),
    }
    return logits, ids, values


@pytest.mark.parametrize("policy", POLICIES, ids=lambda p: f"{p.kind.value}-{p.sampled}-{p.confidence_of.value}")
@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1 << 30),
    steps=st.lists(st.integers(0, 9), min_size=4, max_size=4),
    bounds=st.lists(st.floats(0, 1), min_size=4, max_size=4),
    temperature=st.floats(0.1, 3),
)
def test_every_policy_means_what_numpy_says(
    policy: PolicyPlan, seed: int, steps: list[int], bounds: list[float], temperature: float
) -> None:
    scale = 1 if THRESHOLDS.get(policy.kind, THRESHOLDS[PolicyKind.MARGIN]).most == 1 else 5
    logits, ids, values = _round(seed, steps, [scale * bound for bound in bounds], temperature)
    made = _run(policy, logits, ids, values)
    mask = values["canvas_mask"]
    np.testing.assert_array_equal(made["output_ids"][~mask], ids[~mask])
    np.testing.assert_array_equal(made["num_masked"], (mask & (made["output_ids"] == MASK)).sum(axis=1))
    assert (made["num_masked"] <= np.maximum(mask.sum(axis=1) - np.array(steps), 0)).all()


@pytest.mark.parametrize("kind", [kind for kind in PolicyKind if kind is not PolicyKind.RANDOM])
def test_of_equal_positions_the_lower_comes_first(kind: PolicyKind) -> None:
    logits, ids, values = _round(0, [4, 2, 1, 1], [THRESHOLDS[kind].none if kind in THRESHOLDS else 0] * 4)
    logits[:] = logits[0, 0]
    found = _run(PolicyPlan(kind), logits, ids, values)["output_ids"]
    for b, step in enumerate([4, 2, 1, 1]):
        candidates = np.flatnonzero(values["canvas_mask"][b])
        filled = np.flatnonzero(values["canvas_mask"][b] & (found[b] != MASK))
        np.testing.assert_array_equal(filled, candidates[:step])


def _filled(policy: PolicyPlan, p: list[list[float]], threshold: float) -> list[int]:
    """The positions that a round without a step fills; tokens 0 to 2 have these probabilities."""
    logits = np.full((1, len(p), VOCAB), -100, np.float32)
    logits[0, :, :3] = np.log(np.array(p) + 1e-30)
    ids = np.full((1, len(p)), MASK)
    values = {
        "canvas_mask": ids == MASK,
        "step": np.zeros(1, np.int64),
        "threshold": np.array([threshold], np.float32),
    }
    return np.flatnonzero(_run(policy, logits, ids, values)["output_ids"][0] != MASK).tolist()


P = [[0.5, 0.4, 0.1], [0.9, 0.1, 0], [0.75, 0.2, 0.05], [0.6, 0.1, 0.3]]


@pytest.mark.parametrize(
    ("kind", "threshold", "positions"),
    [
        (PolicyKind.CONFIDENCE, 0.55, [1, 2, 3]),
        (PolicyKind.CONFIDENCE, 1, []),
        (PolicyKind.MARGIN, 0.25, [1, 2, 3]),
        (PolicyKind.MARGIN, 0.5, [1, 2]),
        # In the order 0.9, 0.75, 0.6, 0.5: 2 * 0.1, 3 * 0.25, 4 * 0.4, 5 * 0.5.
        (PolicyKind.FACTOR, 0.19, []),
        (PolicyKind.FACTOR, 0.76, [1, 2]),
        (PolicyKind.FACTOR, 1.7, [1, 2, 3]),
        # Entropies in order 0.325, 0.687, 0.898, 0.943: sums before 0, 0.325, 1.012, 1.910.
        (PolicyKind.ENTROPY, 0, []),
        (PolicyKind.ENTROPY, 0.3, [1]),
        (PolicyKind.ENTROPY, 1.0, [1, 2]),
        (PolicyKind.ENTROPY, 1.1, [1, 2, 3]),
        (PolicyKind.ENTROPY, 2.0, [0, 1, 2, 3]),
    ],
)
def test_a_threshold_adds_the_positions_that_its_source_says(
    kind: PolicyKind, threshold: float, positions: list[int]
) -> None:
    assert _filled(PolicyPlan(kind), P, threshold) == positions


def test_samples_are_drawn_by_inversion_and_never_the_mask() -> None:
    policy = PolicyPlan(sampled=True)
    logits = np.log(np.array([[[0.2, 0.3, 0.1, 0.15, 9.0, 0.25, *[1e-30] * 5]] * 8], np.float32))
    numbers = [0, 0.19, 0.21, 0.49, 0.51, 0.74, 0.76, 1 - 2.0**-23]
    values = {
        "canvas_mask": np.ones((1, 8), np.bool_),
        "step": np.array([8]),
        "threshold": np.ones(1, np.float32),
        "temperature": np.ones(1, np.float32),
        "uniforms": np.array([[[number, 0] for number in numbers]], np.float32),
    }
    made = _run(policy, logits, np.full((1, 8), MASK), values)
    assert made["output_ids"].tolist() == [[0, 0, 1, 1, 2, 3, 5, 5]]
    np.testing.assert_allclose(made["confidence"][0], [0.2, 0.2, 0.3, 0.3, 0.1, 0.15, 0.25, 0.25], rtol=1e-5)
