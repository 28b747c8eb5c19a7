"""Checks that no weight is NaN or infinite."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ptgc.compiler.checking.report import StageReport
from ptgc.graphs.piece import MODULE_KEY
from ptgc.graphs.storage import load
from ptgc.spec.role import Role

_SHOWN = 5  # most tensors to name per graph
_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)


def check_weights(stage: str, folder: Path, roles: Mapping[str, Role]) -> StageReport:
    """Look for NaN and infinity in every stored tensor of every role.

    Args:
        stage: Name of the stage.
        folder: The folder of the bundle or the build.
        roles: The graphs.
    """
    report = StageReport(stage)
    for name, role in roles.items():
        values = load(folder / role.graph).graph.initializers.values()
        found = [text for text in map(_problem, values) if text]
        report.divergences += [f"role {name}: {text}" for text in found[:_SHOWN]]
        if len(found) > _SHOWN:
            report.divergences.append(f"role {name}: {len(found) - _SHOWN} more tensors")
    return report


def _problem(value: ir.Value) -> str:
    tensor = value.const_value
    if tensor is None or tensor.dtype not in _FLOATS:
        return ""
    numbers = tensor.numpy()
    if numbers.dtype.kind != "f":  # numpy has no bfloat16 of its own
        numbers = numbers.astype(np.float32)
    if numbers.ndim == 0 and np.isinf(numbers):
        return ""  # what a model's code puts for scores that must not win, as routers of experts do; no weight
    bad = int(numbers.size - np.isfinite(numbers).sum())
    return f"tensor {value.name}{_user(value)} holds {bad} values that are NaN or infinite" if bad else ""


def _user(value: ir.Value) -> str:
    """The module that a tensor belongs to, because the tensor's own name may be just a number from tracing."""
    modules = [use.node.metadata_props.get(MODULE_KEY, "") for use in value.uses()]
    return f" of {modules[0]}" if modules and modules[0] else ""
