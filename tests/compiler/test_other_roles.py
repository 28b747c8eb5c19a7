"""Builds of loops other than the speculative one, and of encoders: prepared graphs against canonical ones."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.exporters import export
from ptgc.spec.bundle import Build, Bundle, open_bundle
from ptgc.spec.lowering import Lowering
from ptgc.spec.ports import DType, Port
from ptgc.spec.role import Role
from ptgc.spec.strategies.ctc import ctc
from ptgc.spec.strategies.levenshtein import levenshtein
from ptgc.spec.strategies.masked_diffusion import masked_diffusion
from ptgc.spec.strategies.ngram import ngram
from tests.exporters.graph_run import load
from tests.other_models import tiny_bert, tiny_ctc, tiny_levenshtein, tiny_marian

SIZES = {
    "batch": 2,
    "canvas_length": 16,
    "source_length": 8,
    "num_tokens": 3,
    "num_logits": 3,
    "mask_slots": 3,
    "kv_capacity": 20,
}
PLANS: dict[str, Any] = {
    "masked-diffusion": lambda: ({"denoiser": tiny_bert()}, masked_diffusion(3)),
    "ctc": lambda: (tiny_ctc(), ctc(0, 2)),
    "levenshtein": lambda: (tiny_levenshtein(), levenshtein(3, 1, 2, 0)),
    "encoder-decoder": lambda: ({"target": tiny_marian(), "encoder": tiny_marian()}, ngram(4)),
}
EDITS: tuple[Any, ...] = ((32, 48), (32, 48))
LENGTHS: dict[str, dict[str, Any]] = {
    "masked-diffusion": {"denoiser": ((), (32, 64))},
    "ctc": {"encoder": ((32, 64), ()), "decoder": ((32, 64), (64, 128))},
    "levenshtein": {"encoder": ((32, 48), ()), "deleter": EDITS, "inserter": EDITS, "filler": EDITS},
    "encoder-decoder": {"encoder": ((32, 64), ()), "target": ((32, 64), ())},
}


@cache
def _bundle(place: Path, name: str) -> Bundle:
    modules, plan = PLANS[name]()
    return open_bundle(export(modules, plan, place / f"other-{name}"))


def _array(port: Port, rng: np.random.Generator) -> np.ndarray:
    """Random values that this port may have."""
    shape = [SIZES[dim] if isinstance(dim, str) else dim for dim in port.shape]
    if port.name in ("position_ids", "logits_rows"):
        return np.repeat(np.arange(shape[1])[None], shape[0], axis=0)
    if port.name == "tree_mask":
        return np.repeat(np.tril(np.ones(shape[1:], np.bool_))[None], shape[0], axis=0)
    if port.name.endswith("mask"):
        return np.arange(shape[1]) < np.array([[shape[1]], [shape[1] - 3]])
    fixed = {"mask_start": [0, 0], "write_index": [0, 0], "row_count": [3, 3], "lengths": [16, 9], "step": [3, 2]}
    if port.name in fixed:
        return np.array(fixed[port.name])
    if port.dtype is DType.INT64:
        return rng.integers(4, 20, shape)
    return rng.normal(size=shape).astype(np.float32) if len(shape) > 1 else np.full(shape, 0.9, np.float32)


def _inputs(role: Role) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    reads = role.states + (role.cross_states if role.states else ())
    states = [port for layer, state in enumerate(role.states) for port in state.past_ports(layer)]
    states += [port for layer, state in enumerate(reads[len(role.states) :]) for port in state.past_ports(layer)]
    return {port.name: _array(port, rng) for port in (*role.inputs, *states)}


def _both(bundle: Bundle, made: Build) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Each output of each role: its name, what the prepared graph gives, and what the canonical one does."""
    for name, role in bundle.manifest.roles.items():
        arrays = _inputs(role)
        canonical = load(bundle.path / role.graph)(**arrays)
        lowered = made.manifest.roles[name]
        removed = {port.name for port in role.inputs} - {port.name for port in lowered.inputs}
        types = {port.name: port for layer, state in enumerate(lowered.states) for port in state.past_ports(layer)}
        given = {port: arrays[port] for port in arrays if port not in removed}
        given |= {port: arrays[port].astype(types[port].dtype.value) for port in types}
        found = load(made.path / lowered.graph)(**given)
        assert set(found) == set(canonical)
        for output, array in found.items():
            assert array.shape == canonical[output].shape and np.isfinite(array).all()
            yield output, array, canonical[output]


@pytest.mark.parametrize("precision", ["float32", "int8", "int4"])
@pytest.mark.parametrize("name", PLANS)
def test_prepared_graphs_compute_what_canonical_ones_do(place: Path, name: str, precision: str) -> None:
    bundle = _bundle(place, name)
    made = build(bundle.path, BuildOptions(precision=precision, batch_size=2))
    shapes = made.manifest.shapes.roles
    assert {role: (own.source_lengths, own.canvas_lengths) for role, own in shapes.items()} == LENGTHS[name]
    for output, array, canonical in _both(bundle, made):
        if precision == "float32":
            np.testing.assert_allclose(array, canonical, rtol=1e-3, atol=1e-4)
        elif array.dtype.kind == "f" and precision == "int8":
            error = np.abs(array.astype(np.float32) - canonical).max() / np.abs(canonical).max()
            assert error < 0.1, output


@pytest.mark.parametrize("name", PLANS)
def test_portable_graphs_compute_what_canonical_ones_do(place: Path, name: str) -> None:
    bundle = _bundle(place, name)
    options = BuildOptions(
        backend="tensorrt-rtx", lowering=Lowering.PORTABLE, precision="float32", batch_size=2, stage=Stage.PREPARE
    )
    made = build(bundle.path, options)
    for role in made.manifest.roles.values():
        onnx.checker.check_model(str(made.path / role.graph), full_check=True)
        assert ir.load(made.path / role.graph).graph.opset_imports == {"": 20}
    for _, array, canonical in _both(bundle, made):
        np.testing.assert_allclose(array, canonical, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_weights_that_roles_share_are_in_a_build_once(place: Path, precision: str) -> None:
    bundle = _bundle(place, "levenshtein")
    made = build(bundle.path, BuildOptions(precision=precision, build_id=f"shared-{precision}"))
    sizes = {entry.path: entry.size for entry in made.manifest.files}
    assert sizes.get("inserter.data", 0) + sizes.get("filler.data", 0) < 0.7 * sizes["deleter.data"]
