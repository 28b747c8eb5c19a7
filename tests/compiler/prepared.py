"""Canonical and prepared graphs of tiny models, on disk and loaded."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import onnx_ir as ir
import onnx_ir.passes.common as common

from ptgc.compiler.backends.base import Preparation
from ptgc.compiler.backends.onnxruntime import OnnxRuntimeBackend
from ptgc.compiler.graph_session import GraphSession
from ptgc.exporters.roles.base import TracedRole
from ptgc.exporters.roles.target import trace_target
from ptgc.graphs.passes.normalize_linear import NormalizeLinearPass
from ptgc.graphs.storage import save
from ptgc.spec.lowering import Lowering
from ptgc.spec.plan import DecodePlan
from ptgc.spec.role import Role
from ptgc.spec.shapes import RoleShapes
from ptgc.spec.strategies.ngram import ngram
from tests.models import prompt, tiny_model

CAPACITY = 160
TEXT = [prompt(40), prompt(17, 1)]
LINEAR_LAYERS = 3 * 7 + 1  # of the tiny llama: three layers, and a tied head


@cache
def traced(family: str) -> TracedRole:
    """The canonical graph of a tiny model."""
    return trace_target(tiny_model(family))


def role_of(target: TracedRole) -> Role:
    """Its role."""
    return target.role("target.onnx")


def normalized(family: str) -> ir.Model:
    """A tiny model as it is before quantisation."""
    model = traced(family).model.clone()
    NormalizeLinearPass()(model)
    common.ShapeInferencePass()(model)
    common.NameFixPass()(model)
    return model


def canonical(family: str, folder: Path) -> GraphSession:
    """The canonical graph, loaded."""
    save(traced(family).model, folder, "canonical")
    return GraphSession(folder / "canonical.onnx", role_of(traced(family)), CAPACITY, num_threads=1)


def prepared_model(
    family: str,
    folder: Path,
    precision: str = "float32",
    batch: int = 1,
    plan: DecodePlan | None = None,
    role: Role | None = None,
    lowering: Lowering = Lowering.NATIVE,
) -> tuple[ir.Model, Role]:
    """The graph lowered for ONNX Runtime on the CPU; give `role` for attention other than causal."""
    save(traced(family).model, folder, "canonical")
    model = ir.load(folder / "canonical.onnx")
    shapes = RoleShapes((1, 2, 4, 8, 16, 32), 16, (CAPACITY,))
    task = Preparation(plan or ngram(), shapes, precision, batch=batch, lowering=lowering)
    made = OnnxRuntimeBackend().prepare(model, role or role_of(traced(family)), task)
    return made.model, replace(made.role, graph=f"{precision}.onnx")


def prepared(
    family: str,
    folder: Path,
    precision: str = "float32",
    batch: int = 1,
    role: Role | None = None,
    lowering: Lowering = Lowering.NATIVE,
) -> GraphSession:
    """The same, loaded."""
    model, role = prepared_model(family, folder, precision, batch, None, role, lowering)
    save(model, folder, precision)
    return GraphSession(folder / role.graph, role, CAPACITY, num_threads=1)
