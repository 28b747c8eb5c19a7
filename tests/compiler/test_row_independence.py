"""What a row computes depends on itself and on what it attends to, never on its neighbours."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest
import torch

from ptgc.compiler.backends.base import Backend, Preparation
from ptgc.compiler.backends.onnxruntime import OnnxRuntimeBackend
from ptgc.compiler.backends.tensorrt import TENSORRT_RTX, TensorRTBackend
from ptgc.compiler.graph_session import NUMPY_TYPES
from ptgc.compiler.session_options import session_options
from ptgc.exporters.roles.base import TracedRole
from ptgc.exporters.roles.target import trace_target
from ptgc.graphs.storage import save
from ptgc.spec.shapes import RoleShapes
from ptgc.spec.strategies.ngram import ngram
from tests.models import prompt, tiny_model

CAPACITY = 160
PAST = 5  # slots of zeros that every row sees
OUTLIER = 3  # a token whose row has one number a thousand times as large as any other
ROWS = 8
SIZES = {"num_tokens": ROWS, "num_logits": ROWS, "mask_slots": ROWS, "kv_capacity": CAPACITY}


@cache
def _traced(family: str) -> TracedRole:
    model = copy.deepcopy(tiny_model(family))
    with torch.no_grad():
        embedding = model.get_input_embeddings().weight
        embedding[OUTLIER] = 0
        embedding[OUTLIER, 7] = 1000 * embedding.abs().max()
    return trace_target(model)


def _prepared(family: str, backend: Backend, precision: str, batch: int, folder: Path) -> Path:
    target = _traced(family)
    save(target.model, folder, "canonical")
    role = target.role("canonical.onnx")
    shapes = RoleShapes((1, 2, 4, 8, 16, 32), 16, (CAPACITY,))
    text = [prompt(40)] if precision in ("fp8", "w8a8") else ()  # so that inputs are rounded too
    task = Preparation(ngram(), shapes, precision, calibration=text, batch=batch)
    made = backend.prepare(ir.load(folder / "canonical.onnx"), role, task)
    save(made.model, folder, "prepared")
    return folder / "prepared.onnx"


def _logits(graph: Path, ids: np.ndarray) -> np.ndarray:
    """Logits of every row `[batch, rows, vocab]`, after a few slots of zeros."""
    batch = ids.shape[0]
    session = onnxruntime.InferenceSession(str(graph), session_options(str(graph)), providers=["CPUExecutionProvider"])
    given = {
        "input_ids": ids,
        "position_ids": np.tile(PAST + np.arange(ROWS), (batch, 1)),
        "tree_mask": np.tile(np.tri(ROWS, dtype=np.bool_), (batch, 1, 1)),
        "mask_start": np.full(batch, PAST),
        "write_index": np.full(batch, PAST),
        "row_count": np.full(batch, ROWS),
        "logits_rows": np.tile(np.arange(ROWS), (batch, 1)),
    }
    feeds = {}
    for value in session.get_inputs():
        shape: list[Any] = [batch if size == "batch" else SIZES.get(size, size) for size in value.shape]
        dtype = NUMPY_TYPES["float16" if "float16" in value.type else "float32"]
        feeds[value.name] = given[value.name] if value.name in given else np.zeros(shape, dtype)
    (found,) = session.run(["logits"], feeds)
    return np.asarray(found)


CPU, RTX = OnnxRuntimeBackend(), TensorRTBackend(TENSORRT_RTX)
CASES = [(CPU, precision) for precision in CPU.precisions]
CASES += [(RTX, precision) for precision in RTX.precisions if precision != "bfloat16"]  # not on the CPU


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(("backend", "precision"), CASES, ids=[f"{backend.name}-{p}" for backend, p in CASES])
@pytest.mark.parametrize("family", ["llama", "mixtral"])
def test_an_outlier_changes_no_other_row(
    family: str, backend: Backend, precision: str, batch: int, tmp_path: Path
) -> None:
    graph = _prepared(family, backend, precision, batch, tmp_path)
    ids = np.array([prompt(ROWS, seed) for seed in range(batch)])
    ids[ids == OUTLIER] += 1
    before = _logits(graph, ids)
    later = ids.copy()
    later[0, ROWS // 2 :] = OUTLIER  # after the rows that are compared
    after = _logits(graph, later)
    assert np.isfinite(before).all()
    # Bit-identical, except that the order of sums in a float product depends on how many rows chose the same expert.
    tolerance = 1e-5 if (family, precision) == ("mixtral", "float32") else 0.0
    np.testing.assert_allclose(after[0, : ROWS // 2], before[0, : ROWS // 2], rtol=0, atol=tolerance)
    np.testing.assert_allclose(after[1:], before[1:], rtol=0, atol=tolerance)  # other sequences
    assert not np.array_equal(after[0, ROWS // 2 :], before[0, ROWS // 2 :])
