"""Tests of what counts as an equal module, whose trace tests share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
import torch
from torch import nn

from ptgc.exporters.tracing.traced_module import quiet_exporter
from tests.traces import content_digest, shared_traces


def _model() -> Any:
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
    model.names = {"b", "a", "c"}
    model.scale = 2.0
    model.call = (lambda scale: lambda x: x * scale)(2)
    return model


def _one_bit(model: Any) -> None:
    with torch.no_grad():
        model[0].weight[1, 2] = torch.nextafter(model[0].weight[1, 2], torch.tensor(9.0))


def _tie(model: Any) -> None:
    with torch.no_grad():
        model[2].weight.copy_(model[0].weight)


_CHANGES: dict[str, Callable[[Any], Any]] = {
    "weight": _one_bit,
    "attribute": lambda model: setattr(model, "scale", 3.0),
    "type of an attribute": lambda model: setattr(model, "scale", 2),
    "mode": lambda model: model.eval(),
    "class of a part": lambda model: model.__setitem__(1, nn.GELU()),
    "dtype": lambda model: model.half(),
    "code": lambda model: setattr(model, "call", (lambda scale: lambda x: x + scale)(2)),
    "enclosed value": lambda model: setattr(model, "call", (lambda scale: lambda x: x * scale)(3)),
    "own forward": lambda model: setattr(model, "forward", functools.partialmethod),
}


def test_equal_modules_have_one_digest() -> None:
    assert content_digest(_model()) == content_digest(_model()) is not None


@pytest.mark.parametrize("change", _CHANGES)
def test_any_difference_counts(change: str) -> None:
    model = _model()
    _CHANGES[change](model)
    assert content_digest(model) != content_digest(_model())


def test_a_shared_weight_differs_from_an_equal_one() -> None:
    equal, shared = _model(), _model()
    for model in (equal, shared):
        _tie(model)
    shared[2].weight = shared[0].weight
    assert content_digest(equal) != content_digest(shared)


def test_what_cannot_be_compared_has_no_digest() -> None:
    class Local(nn.Module):
        pass

    for part in (Local(), iter([1]), functools.partial(print, 1), torch.Generator()):
        assert content_digest([part]) is None


def test_an_equal_module_is_traced_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    traced, export = [], torch.onnx.export

    def record(*args: Any, **kwargs: Any) -> Any:
        traced.append(args)
        return export(*args, **kwargs)

    monkeypatch.setattr(torch.onnx, "export", record)
    (tmp_path / "worker" / "bundles").mkdir(parents=True)
    with shared_traces(tmp_path / "worker" / "bundles"):
        changed = _model()
        changed[0].bias.data += 1
        models = [_model(), _model(), changed]
        with quiet_exporter():
            graphs: list[Any] = [torch.onnx.export(model.eval(), (torch.ones(2, 3),), dynamo=True) for model in models]
    assert len(traced) == 2
    first, again, other = (ir.to_proto(graph.model).SerializeToString(deterministic=True) for graph in graphs)
    assert first == again != other
