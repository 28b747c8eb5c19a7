"""Builds for TensorRT before 10.15: graphs of opset 20, which TensorRT-RTX compiles on a machine without a GPU."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from typer.testing import CliRunner

from ptgc.cli.app import app
from ptgc.compiler.backends.base import Preparation
from ptgc.compiler.backends.tensorrt import TENSORRT, TENSORRT_RTX, TensorRTBackend
from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.compiler_options import CompilerOptions
from ptgc.compiler.build.stage import Stage
from ptgc.compiler.checking.check import check_bundle
from ptgc.compiler.precision.quantization.quantizer import Quantizer
from ptgc.errors import BuildError
from ptgc.exporters import export
from ptgc.graphs.storage import save
from ptgc.spec.bundle import Build, open_build, open_bundle
from ptgc.spec.lowering import Lowering
from ptgc.spec.shapes import RoleShapes
from ptgc.spec.strategies.ngram import ngram
from tests.bundles import tiny_bundle
from tests.compiler.batched_rounds import batched_rounds
from tests.compiler.prepared import CAPACITY
from tests.models import FAMILIES, MORE_FAMILIES, prompt
from tests.other_models import tiny_marian

pytestmark = pytest.mark.tensorrt

NEWER = {"Attention", "TensorScatter", "RotaryEmbedding", "RMSNormalization"}
SHAPES = RoleShapes((1, 8, 32), 8, (CAPACITY,))


@pytest.fixture
def bundle(place: Path, tmp_path: Path) -> Path:
    ignored = shutil.ignore_patterns("builds")
    return Path(shutil.copytree(tiny_bundle(place, "llama"), tmp_path / "bundle", ignore=ignored))


def prepared(family: str, precision: str, place: Path, folder: Path) -> Path:
    """A family's graph as it is prepared portably, checked by onnx."""
    source = canonical(family, place)
    role = open_bundle(tiny_bundle(place, family)).manifest.roles["target"]
    text = [prompt(40)] if precision in ("fp8", "w8a8") else ()  # so that inputs are rounded too
    quantizer = Quantizer.RTN  # forty tokens are too few for error compensation
    task = Preparation(ngram(), SHAPES, precision, {}, text, Lowering.PORTABLE, quantizer, batch=2)
    made = TensorRTBackend(TENSORRT_RTX).prepare(ir.load(source), role, task)
    save(made.model, folder, "portable")
    path = folder / "portable.onnx"
    onnx.checker.check_model(str(path), full_check=True)
    return path


def canonical(family: str, place: Path) -> Path:
    """The canonical graph of a family."""
    bundle = tiny_bundle(place, family)
    return bundle / open_bundle(bundle).manifest.roles["target"].graph


@pytest.mark.parametrize("family", FAMILIES + MORE_FAMILIES)
def test_every_family_computes_the_same_in_opset_20_for_sequences_of_any_length(
    family: str, place: Path, tmp_path: Path
) -> None:
    path = prepared(family, "float32", place, tmp_path)
    graph = ir.load(path).graph
    assert graph.opset_imports == {"": 20}
    assert not NEWER & {node.op_type for node in graph}
    for found, expected in zip(batched_rounds(path), batched_rounds(canonical(family, place)), strict=True):
        assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("precision", "least"), [("float16", 0.9999), ("int8", 0.99), ("fp8", 0.97), ("w8a8", 0.97), ("bfloat16", None)]
)
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_every_precision_is_valid_in_opset_20(
    family: str, precision: str, least: float | None, place: Path, tmp_path: Path
) -> None:
    path = prepared(family, precision, place, tmp_path)
    if least is None:  # ONNX Runtime has no bfloat16 on the CPU
        return
    found, expected = (np.concatenate(batched_rounds(one)).ravel() for one in (path, canonical(family, place)))
    assert np.corrcoef(found, expected)[0, 1] > least


def test_norms_stay_in_float32_and_caches_are_read_in_half(place: Path, tmp_path: Path) -> None:
    model = ir.load(prepared("qwen3", "float16", place, tmp_path))
    types = {"Pow": ir.DataType.FLOAT, "Softmax": ir.DataType.FLOAT, "ScatterND": ir.DataType.FLOAT16}
    infer = onnx.shape_inference.infer_shapes(ir.to_proto(model))
    known = {value.name: value.type.tensor_type.elem_type for value in (*infer.graph.value_info, *infer.graph.output)}
    for node in infer.graph.node:
        if node.op_type in types:
            assert known[node.output[0]] == types[node.op_type]


def test_a_graph_prepared_twice_has_the_same_bytes(place: Path, tmp_path: Path) -> None:
    files = []
    for folder in (tmp_path / "one", tmp_path / "other"):
        folder.mkdir()
        path = prepared("gemma3", "int8", place, folder)
        files.append([path.read_bytes(), path.with_suffix(".data").read_bytes()])
    assert files[0] == files[1]


@cache
def _encoder_decoder(place: Path) -> Path:
    return export({"target": tiny_marian(), "encoder": tiny_marian()}, ngram(4), place / "portable-marian")


def made_of(source: Path, folder: Path, precision: str, *capabilities: str) -> Build:
    """A compiled build of a copy of a bundle."""
    copy = shutil.copytree(source, folder / "copy", ignore=shutil.ignore_patterns("builds"))
    options = BuildOptions(
        backend="tensorrt-rtx",
        lowering=Lowering.PORTABLE,
        precision=precision,
        max_length=64,
        compiler=CompilerOptions(capabilities),
    )
    made = build(copy, options)
    made.verify()
    return made


@pytest.mark.parametrize(
    ("family", "precision"),
    [("llama", "float32"), ("llama", "bfloat16"), ("llama", "int8"), ("llama", "fp8"), ("gemma3", "float16")],
)
def test_engines_say_that_caches_are_not_updated_in_place(
    family: str, precision: str, place: Path, tmp_path: Path
) -> None:
    targets = ("8.9", "12.0") if precision == "fp8" else ("8.6", "8.9", "12.0")
    made = made_of(tiny_bundle(place, family), tmp_path, precision, *targets)
    document = json.loads((made.path / "build.json").read_text())
    (engine,) = document["engines"]
    assert document["lowering"] == "portable" and engine["updates_in_place"] is False
    assert open_build(made.path).manifest.engines == made.manifest.engines
    layers = len(made.manifest.roles["target"].states)
    assert engine["layers"]["SCATTER"] == 2 * layers
    assert not {"KV_CACHE_UPDATE", "ATTENTION_OUTPUT"} & set(engine["layers"])
    assert len(engine["not_native"]) == layers
    assert all("before 10.15" in reason for reason in engine["not_native"].values())


def test_an_encoder_has_no_cache_and_its_decoder_has(place: Path, tmp_path: Path) -> None:
    made = made_of(_encoder_decoder(place), tmp_path, "float16", "8.6")
    assert {e.role: e.updates_in_place for e in made.manifest.engines} == {"encoder": True, "target": False}


def test_native_engines_update_in_place(bundle: Path) -> None:
    made = build(bundle, BuildOptions(backend="tensorrt-rtx", max_length=64))
    assert [engine.updates_in_place for engine in made.manifest.engines] == [True]
    document = json.loads((made.path / "build.json").read_text())
    assert document["lowering"] == "native"
    del document["lowering"], document["engines"][0]["updates_in_place"]  # as before there were two lowerings
    (made.path / "build.json").write_text(json.dumps(document))
    older = open_build(made.path).manifest
    assert older.lowering is Lowering.NATIVE and older.engines[0].updates_in_place


def test_a_portable_build_has_a_name_of_its_own_and_is_checked(bundle: Path) -> None:
    command = ["build", str(bundle), "--backend", "tensorrt", "--lowering", "portable", "--stage", "prepare"]
    made = CliRunner().invoke(app, [*command, "--precision", "w8a8", "--json"])
    assert made.exit_code == 1 and "there is no text" in made.output  # as in the native lowering
    made = CliRunner().invoke(app, [*command, "--json"])
    assert json.loads(made.stdout)["build"] == "tensorrt-cuda-float16-portable"
    (report,) = [one for one in check_bundle(bundle) if "prepared graph" in one.stage]
    assert report.passed and report.tokens > 0


def test_int4_is_refused_with_what_to_do(bundle: Path) -> None:
    with pytest.raises(BuildError, match="'int4' needs opset 21") as caught:
        build(bundle, BuildOptions(backend="tensorrt", lowering=Lowering.PORTABLE, precision="int4"))
    assert "int8" in caught.value.action
    with pytest.raises(BuildError, match="has no lowering 'portable'"):
        build(bundle, BuildOptions(lowering=Lowering.PORTABLE))


@pytest.mark.parametrize(("version", "is_old"), [("10.3.0.26", True), ("10.13.3.9", True), ("10.15.1", False)])
def test_an_older_tensorrt_is_told_the_lowering_that_it_takes(
    version: str, is_old: bool, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__=version))
    backend = TensorRTBackend(TENSORRT)
    backend.check_version(Lowering.PORTABLE)
    if not is_old:
        backend.check_version(Lowering.NATIVE)
        return
    options = BuildOptions(backend="tensorrt", max_length=64, stage=Stage.PREPARE)
    build(bundle, options)
    for stage in (Stage.ALL, Stage.COMPILE):
        with pytest.raises(BuildError, match=rf"tensorrt {version} lacks .* tensorrt 10\.15 is the first") as caught:
            build(bundle, replace(options, stage=stage, replace=True))
        assert "ptgc build BUNDLE --backend tensorrt --lowering portable" in caught.value.action
