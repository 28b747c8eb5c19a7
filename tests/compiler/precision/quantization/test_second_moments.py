"""Second moments over a text."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ptgc.compiler.precision.quantization.second_moments import second_moments
from ptgc.graphs.linear import linears
from ptgc.graphs.storage import serialize
from tests.compiler.prepared import prepared_model
from tests.models import prompt


def test_moments_are_those_of_every_linear_layers_input(tmp_path: Path) -> None:
    model, role = prepared_model("llama", tmp_path)
    before = serialize(model)
    (portion,) = (dict(one) for one in second_moments(model, role, [prompt(40), prompt(17)]))
    assert serialize(model) == before
    assert set(portion) == {linear.input_name for linear in linears(model.graph)}
    for linear in linears(model.graph):
        moments = portion[linear.input_name]
        assert moments.shape == (linear.in_features, linear.in_features)
        assert (np.linalg.eigvalsh(moments) > -1e-3 * np.abs(moments).max()).all()
