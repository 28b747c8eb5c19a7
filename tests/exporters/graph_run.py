"""Exports modules and runs their graphs in ONNX Runtime, as a loop would."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from torch import nn

from ptgc.compiler.session_options import session_options
from ptgc.exporters.roles.base import RoleSource, TracedRole, check_roles, trace_role
from ptgc.graphs.storage import SavedWeights, save
from ptgc.spec.plan import DecodePlan

Graph = Callable[..., dict[str, Any]]
"""Named arrays in, named arrays out."""


def trace_all(modules: Mapping[str, nn.Module], plan: DecodePlan) -> dict[str, TracedRole]:
    """The roles of a plan, traced."""
    traced: dict[str, TracedRole] = {}
    for name in check_roles(plan, tuple(modules)):
        traced[name] = trace_role(RoleSource(name, modules[name], plan, modules, traced))
    return traced


def load_all(roles: Mapping[str, TracedRole], folder: Path) -> dict[str, Graph]:
    """The roles' graphs, written with shared weights and loaded."""
    saved = SavedWeights()
    for name, role in roles.items():
        save(role.model, folder, name, saved)
    return {name: load(folder / f"{name}.onnx") for name in roles}


def load(path: Path) -> Graph:
    """A graph as a function."""
    options = session_options(str(path))
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_outputs()]

    def run(**arrays: Any) -> dict[str, Any]:
        return dict(zip(names, session.run(None, {k: np.asarray(v) for k, v in arrays.items()}), strict=True))

    return run


def padded(rows: list[list[int]], length: int, fill: int = 0) -> np.ndarray:
    """Ragged rows in one array `[rows, length]`."""
    return np.array([row + [fill] * (length - len(row)) for row in rows], dtype=np.int64)
