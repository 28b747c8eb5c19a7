"""Which numbers of a graph are damaged weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ptgc.compiler.checking.weights import check_weights
from ptgc.spec.role import Role


@pytest.mark.parametrize(
    ("value", "bad"), [(np.float32(-np.inf), 0), (np.float32(np.nan), 1), (np.array([-np.inf, 1], np.float32), 1)]
)
def test_an_infinite_number_in_the_code_of_a_model_is_no_weight(tmp_path: Path, value: Any, bad: int) -> None:
    made = numpy_helper.from_array(np.asarray(value), "w")
    given, made_sum = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Add", ["x", "w"], ["y"])], "g", [given], [made_sum], [made])
    onnx.save(helper.make_model(graph), tmp_path / "m.onnx")
    report = check_weights("weights", tmp_path, {"target": Role("m.onnx", (), ())})
    assert report.divergences == [f"role target: tensor w holds {bad} values that are NaN or infinite"] * (bad > 0)
