"""Engines compiled ahead of time by TensorRT-RTX, on a machine without a GPU; none of them runs here."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from click.testing import Result
from typer.testing import CliRunner

from ptgc.cli.app import app
from ptgc.compiler.backends.base import Preparation
from ptgc.compiler.backends.tensorrt import TENSORRT_RTX, TensorRTBackend
from ptgc.compiler.backends.tensorrt_network import Compiled, Compiler, compile_graph
from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.compiler_options import CompilerOptions
from ptgc.compiler.build.dimensions import Dimensions, Range
from ptgc.compiler.build.stage import Stage
from ptgc.compiler.graph_session import GraphSession
from ptgc.errors import BackendError, BuildError
from ptgc.exporters.roles.base import TracedRole
from ptgc.graphs.storage import save
from ptgc.spec import ports
from ptgc.spec.attention import AttentionKind
from ptgc.spec.build_manifest import BuildManifest
from ptgc.spec.bundle import Build, open_bundle
from ptgc.spec.canvas import ConfidenceOf, PolicyKind, PolicyPlan
from ptgc.spec.engine import Engine
from ptgc.spec.plan import DecodePlan
from ptgc.spec.ports import DType
from ptgc.spec.shapes import RoleShapes, ShapePlan
from ptgc.spec.strategies.autoregressive import autoregressive
from ptgc.spec.strategies.ctc import ctc
from ptgc.spec.strategies.draft_model import draft_model
from ptgc.spec.strategies.levenshtein import levenshtein
from ptgc.spec.strategies.masked_diffusion import masked_diffusion
from ptgc.spec.strategies.ngram import ngram
from tests.block_diffusion import BLOCK_DIFFUSION, tiny_block_diffusion
from tests.bundles import tiny_bundle
from tests.compiler.prepared import role_of, traced
from tests.exporters.graph_run import trace_all
from tests.loops import INSERTION
from tests.models import FAMILIES, MORE_FAMILIES, prompt
from tests.other_models import tiny_bert, tiny_ctc, tiny_insertion, tiny_levenshtein, tiny_llama, tiny_marian

pytestmark = pytest.mark.tensorrt

CAPACITY = 160
LENGTH = 128
TARGETS = ("8.6", "8.9", "12.0")
MASKED = masked_diffusion(3)
FLOAT8_TARGETS = ("8.9", "12.0")


def _sampling(plan: DecodePlan, kind: PolicyKind) -> DecodePlan:
    assert plan.canvas is not None
    policy = PolicyPlan(kind, sampled=True, confidence_of=ConfidenceOf.SAMPLED)
    return replace(plan, canvas=replace(plan.canvas, policy=policy))


# The roles of every loop, whatever they are: all of them must compile.
LOOPS: dict[str, Callable[[], dict[str, TracedRole]]] = {
    "encoder-decoder": cache(lambda: trace_all({"target": tiny_marian(), "encoder": tiny_marian()}, autoregressive())),
    "masked-diffusion": cache(lambda: trace_all({"denoiser": tiny_bert()}, _sampling(MASKED, PolicyKind.MARGIN))),
    "ctc": cache(lambda: trace_all(tiny_ctc(2), ctc(0, 2))),
    "levenshtein": cache(lambda: trace_all(tiny_levenshtein(), levenshtein(3, 1, 2, 0, 6))),
    "insertion": cache(lambda: trace_all(tiny_insertion(), INSERTION)),
    "block-diffusion": cache(
        lambda: trace_all({"denoiser": tiny_block_diffusion()}, _sampling(BLOCK_DIFFUSION, PolicyKind.ENTROPY))
    ),
    "draft-model": cache(lambda: trace_all({"target": tiny_llama(layers=2), "drafter": tiny_llama()}, draft_model(4))),
}


def run(*arguments: object) -> Result:
    result: Any = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code != 3, result.output
    return result


def own_bundle(source: Path, target: Path) -> Path:
    """A copy without builds."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("builds"))
    return target


@pytest.fixture
def bundle(place: Path, tmp_path: Path) -> Path:
    return own_bundle(tiny_bundle(place, "llama"), tmp_path / "bundle")


def compiled(bundle: Path, precision: str = "float16", *capabilities: str) -> Build:
    options = BuildOptions(
        backend="tensorrt-rtx",
        precision=precision,
        max_length=LENGTH,
        compiler=CompilerOptions(capabilities),
    )
    made = build(bundle, options)
    made.verify()
    return made


def the_engine(made: Build) -> Engine:
    (engine,) = made.manifest.engines
    return engine


def logits(made: Build, start: int = 0) -> np.ndarray:
    """What the prepared graph computes, in ONNX Runtime on the CPU."""
    role = made.manifest.roles["target"]
    return _logits(GraphSession(made.path / role.graph, role, start + 64, num_threads=1), start)


def canonical_logits(bundle: Path, start: int = 0) -> np.ndarray:
    role = open_bundle(bundle).manifest.roles["target"]
    return _logits(GraphSession(bundle / role.graph, role, start + 64, num_threads=1), start)


def _logits(session: GraphSession, start: int) -> np.ndarray:
    session.commit(start)  # slots of zeros, which both graphs see
    return np.concatenate([session.prefill(prompt(24)), session.forward(prompt(7, 1))])


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


@pytest.mark.parametrize("family", FAMILIES + MORE_FAMILIES)
def test_every_family_compiles_with_caches_and_attention_of_the_compilers_own(
    family: str, place: Path, tmp_path: Path
) -> None:
    source = own_bundle(tiny_bundle(place, family), tmp_path / family)
    original = canonical_logits(source)
    for precision, capabilities, least in (("float16", TARGETS, 0.9999), ("fp8", FLOAT8_TARGETS, 0.9)):
        made = compiled(source, precision, *capabilities)
        engine, layers = the_engine(made), len(made.manifest.roles["target"].states)
        assert engine.layers["KV_CACHE_UPDATE"] == 2 * layers
        assert engine.layers.get("ATTENTION_OUTPUT", 0) == layers - len(engine.not_native)
        assert all("soft capping" in reason for reason in engine.not_native.values())
        assert engine.engine_bytes == (made.path / engine.path).stat().st_size > engine.weight_bytes > 0
        assert correlation(logits(made), original) > least


def test_caches_of_windows_have_a_capacity_of_their_own(place: Path, tmp_path: Path) -> None:
    source = own_bundle(tiny_bundle(place, "gemma3"), tmp_path / "gemma3")
    made = build(source, BuildOptions(backend="tensorrt-rtx", precision="float16", max_length=512))
    engine = the_engine(made)
    assert engine.sizes == {"batch": 1, "kv_capacity": 640, "window_capacity_24": 279}
    assert engine.layers["KV_CACHE_UPDATE"] == 4 and engine.layers["ATTENTION_OUTPUT"] == 2


@pytest.mark.parametrize("precision", ["bfloat16", "int8", "int4"])
def test_every_precision_compiles_natively(precision: str, bundle: Path) -> None:
    made = compiled(bundle, precision, *TARGETS)
    engine = the_engine(made)
    assert engine.layers["KV_CACHE_UPDATE"] == 6 and engine.layers["ATTENTION_OUTPUT"] == 3
    assert not engine.not_native
    assert engine.layers.get("DEQUANTIZE", 0) == (0 if precision == "bfloat16" else 22)
    role = made.manifest.roles["target"]
    half = "bfloat16" if precision == "bfloat16" else "float16"
    assert {state.dtype.value for state in role.states} == {half}
    if precision != "bfloat16":  # which ONNX Runtime does not have on the CPU
        assert correlation(logits(made), canonical_logits(bundle)) > {"int8": 0.99, "int4": 0.8}[precision]


def test_float32_attention_is_written_out_by_the_compiler_and_says_so(bundle: Path) -> None:
    made = compiled(bundle, "float32")
    reasons = the_engine(made).not_native
    assert set(reasons) == {f"model.layers.{layer}.self_attn" for layer in range(3)}
    assert all("float32 attention with heads of 16 has no kernel" in reason for reason in reasons.values())
    np.testing.assert_allclose(logits(made), canonical_logits(bundle), atol=2e-3, rtol=1e-4)


def test_angles_of_late_positions_stay_exact_in_half_precision(bundle: Path) -> None:
    made = compiled(bundle)
    assert correlation(logits(made, start=900), canonical_logits(bundle, start=900)) > 0.9999


@pytest.mark.parametrize("capabilities", [("7.5",), ("8.0", "8.6", "8.9", "12.0", "12.1")])
def test_the_compute_capabilities_asked_for_are_compiled_and_recorded(
    capabilities: tuple[str, ...], bundle: Path
) -> None:
    made = compiled(bundle, "float16", *capabilities)
    document = json.loads((made.path / "build.json").read_text())
    assert document["compute_capabilities"] == list(capabilities)
    assert document["provenance"]["backend_version"] == TensorRTBackend(TENSORRT_RTX).version()
    assert (document["backend"], document["device"]) == ("tensorrt-rtx", "cuda")
    assert all(f"sm{capability.replace('.', '')}" in made.manifest.id for capability in capabilities)


@pytest.mark.parametrize("precision", ["float16", "int8", "fp8"])
@pytest.mark.parametrize("loop", LOOPS)
def test_every_role_of_every_loop_compiles(loop: str, precision: str, tmp_path: Path) -> None:
    traced_roles = LOOPS[loop]()
    backend = TensorRTBackend(TENSORRT_RTX)
    shapes = RoleShapes((1, 4, 16), 4, (CAPACITY,), source_lengths=(8, 24, 48), canvas_lengths=(16, 48))
    roles = {}
    for name, one in traced_roles.items():
        save(one.model, tmp_path, f"{name}-canonical")
        role = one.role(f"{name}.onnx")
        model = ir.load(tmp_path / f"{name}-canonical.onnx")
        made = backend.prepare(model, role, Preparation(autoregressive(), shapes, precision, batch=2))
        save(made.model, tmp_path, name)
        roles[name] = made.role
    plan = ShapePlan(2, LENGTH, dict.fromkeys(roles, shapes))
    manifest = BuildManifest("made", "tensorrt-rtx", "cuda", dict.fromkeys(roles, precision), plan, roles, (), "")
    options = CompilerOptions(FLOAT8_TARGETS if precision == "fp8" else TARGETS)
    engines = {e.role: e for e in backend.compile(Build(tmp_path, manifest), tmp_path, options, lambda step: None)}
    for name, one in traced_roles.items():
        assert all(port.dtype is DType.FLOAT32 for port in roles[name].inputs if port.name == ports.UNIFORMS.name)
        attention = sum(node.op_type == "Attention" for node in one.model.graph)
        assert engines[name].layers.get("ATTENTION_OUTPUT", 0) == attention > 0
        assert engines[name].layers.get("KV_CACHE_UPDATE", 0) == 2 * len(one.states)
        assert all("heads of 8 has no kernel" in reason for reason in engines[name].not_native.values())


def prepared_file(folder: Path, change: Callable[[ir.Model], object], precision: str = "float32") -> Path:
    """The tiny llama with a change, lowered for TensorRT."""
    model = traced("llama").model.clone()
    change(model)
    save(model, folder, "changed")
    shapes = RoleShapes((1, 2, 4, 8, 16, 32), 8, (CAPACITY,))
    loaded = ir.load(folder / "changed.onnx")
    made = TensorRTBackend(TENSORRT_RTX).prepare(
        loaded, role_of(traced("llama")), Preparation(ngram(), shapes, precision)
    )
    save(made.model, folder, precision)
    return folder / f"{precision}.onnx"


def compile_file(graph: Path, widths: Range) -> Compiled:
    import tensorrt_rtx

    logits = Range(1, 1, min(8, widths.most))
    ranges = {ports.NUM_TOKENS: widths, ports.MASK_SLOTS: widths, ports.NUM_LOGITS: logits}
    dimensions = Dimensions({ports.BATCH: 1, ports.KV_CAPACITY: CAPACITY}, ranges)
    compiler = Compiler(tensorrt_rtx, "tensorrt-rtx", CompilerOptions(), None)
    return compile_graph(compiler, graph, dimensions, "target", lambda step: None)


def cap_scores(model: ir.Model) -> None:
    for node in model.graph:
        if node.op_type == "Attention":
            node.attributes["softcap"] = ir.AttrFloat32("softcap", 1.5)


def test_soft_capping_is_written_out_as_the_standard_defines_it(tmp_path: Path) -> None:
    graph = prepared_file(tmp_path, cap_scores)
    role = role_of(traced("llama"))
    sessions = [GraphSession(tmp_path / name, role, 64, num_threads=1) for name in ("changed.onnx", graph.name)]
    np.testing.assert_allclose(_logits(sessions[1], 0), _logits(sessions[0], 0), atol=1e-3, rtol=1e-4)
    made = compile_file(prepared_file(tmp_path, cap_scores, "float16"), Range(1, 8, 32))
    assert "ATTENTION_OUTPUT" not in made.layers and made.layers["KV_CACHE_UPDATE"] == 6
    assert len(made.not_native) == 3 and all("soft capping" in reason for reason in made.not_native.values())


@pytest.mark.parametrize("widths", [Range(1, 1, 2), Range(1, 8, 16), Range(1, 32, 128)])
def test_rounds_of_any_range_of_widths_compile(widths: Range, tmp_path: Path) -> None:
    graph = prepared_file(tmp_path, lambda model: None, "float16")
    assert compile_file(graph, widths).layers["ATTENTION_OUTPUT"] == 3


def test_a_capacity_is_an_engine_of_its_own(bundle: Path, tmp_path: Path) -> None:
    made = build(bundle, BuildOptions(backend="tensorrt-rtx", stage=Stage.PREPARE, max_length=LENGTH))
    target = replace(made.manifest.shapes.roles["target"], kv_capacities=(160, 320))
    shapes = replace(made.manifest.shapes, roles={"target": target})
    made = Build(made.path, replace(made.manifest, shapes=shapes))
    engines = TensorRTBackend(TENSORRT_RTX).compile(made, made.path, CompilerOptions(), lambda step: None)
    assert [engine.path for engine in engines] == ["target.160.engine", "target.320.engine"]
    assert [engine.sizes["kv_capacity"] for engine in engines] == [160, 320]


def test_what_is_prepared_is_a_standard_graph_with_every_node_named_after_its_module(bundle: Path) -> None:
    made = build(bundle, BuildOptions(backend="tensorrt", stage=Stage.PREPARE, max_length=LENGTH))
    path = made.path / made.manifest.roles["target"].graph
    onnx.checker.check_model(str(path), full_check=True)
    graph = ir.load(path).graph
    assert {node.domain for node in graph} == {""}
    names = [node.name for node in graph]
    assert len(set(names)) == len(names)
    assert sum(name is not None and name.startswith("model.layers.0.self_attn/Attention_") for name in names) == 1
    assert not made.manifest.engines


@pytest.mark.parametrize(
    ("operator", "attributes", "sizes", "said"),
    [
        ("Attention", {"softcap": 1.5}, [(1, 2, 4, 32)] * 3, "no soft capping"),
        ("TensorScatter", {"mode": "circular", "axis": -2}, [(1, 2, 64, 32), (1, 2, 1, 32)], "not as a ring"),
        ("NonZero", {}, [(4, 4)], "no such operator"),
        ("TopK", {"axis": -1}, [(1, 5000)], "3840 largest"),
    ],
)
def test_what_the_compiler_refuses_names_the_node_its_module_and_what_to_do(
    operator: str, attributes: dict[str, Any], sizes: list[tuple[int, ...]], said: str, tmp_path: Path
) -> None:
    import tensorrt_rtx

    inputs = [ir.val(f"x{i}", ir.DataType.FLOAT16, ir.Shape(size)) for i, size in enumerate(sizes)]
    constants = {"TensorScatter": np.array([0]), "TopK": np.array([4000])}
    read = list(inputs)
    if operator in constants:
        read.append(ir.val("number", const_value=ir.tensor(constants[operator], name="number")))
    node = ir.node(operator, read, attributes, num_outputs=2 if operator == "TopK" else 1)
    node.name, node.metadata_props["ptgc.module"] = f"model.part/{operator}_0", "model.part"
    graph = ir.Graph(inputs, node.outputs, nodes=[node], initializers=read[len(inputs) :], opset_imports={"": 24})
    for index, value in enumerate(node.outputs):
        value.name = f"y{index}"
        value.dtype = ir.DataType.INT64 if operator == "NonZero" or index else ir.DataType.FLOAT16
    save(ir.Model(graph, ir_version=10), tmp_path, "refused")
    compiler = Compiler(tensorrt_rtx, "tensorrt-rtx", CompilerOptions(), None)
    with pytest.raises(BuildError, match=said) as caught:
        compile_graph(compiler, tmp_path / "refused.onnx", Dimensions({}, {}), "target", lambda step: None)
    assert caught.value.action
    if operator != "TopK":  # the builder finds it, but names no node
        assert f"{operator} in model.part" in caught.value.message


def test_a_dimension_without_sizes_is_refused_by_name() -> None:
    from ptgc.compiler.build.dimensions import engine_dimensions

    roles = {"encoder": RoleShapes((1, 8), 8, (72,)), "denoiser": RoleShapes((), 0, (), canvas_lengths=(16, 32))}
    shapes = ShapePlan(1, 64, roles)
    with pytest.raises(BuildError, match=r"role 'encoder' .*: source_length"):
        engine_dimensions([ports.BATCH, ports.SOURCE_LENGTH], shapes, "encoder")
    (found,) = engine_dimensions([ports.BATCH, ports.CANVAS_LENGTH], shapes, "denoiser")
    assert found == Dimensions({ports.BATCH: 1}, {ports.CANVAS_LENGTH: Range(16, 32, 32)})


def test_a_compute_capability_that_the_compiler_does_not_take_is_refused_with_those_it_takes(bundle: Path) -> None:
    with pytest.raises(BuildError, match=r"capability 8\.7, 9\.0; it takes: 7\.5, 8\.0") as caught:
        compiled(bundle, "float16", "8.6", "8.7", "9.0")
    assert "--backend tensorrt" in caught.value.action
    with pytest.raises(BuildError, match="no arithmetic for the precision"):
        compiled(bundle, "bfloat16", "7.5")
    with pytest.raises(BuildError, match="no arithmetic for the precision") as caught:
        compiled(bundle, "fp8", "8.6", "8.9")
    assert "fp8 8.9" in caught.value.action
    with pytest.raises(BuildError, match=r"MatMul in model\.layers\.0.*7\.5 has no arithmetic"):
        compiled(bundle, "float32", "7.5")
    with pytest.raises(BuildError, match="compiles no engines ahead of time"):
        build(bundle, BuildOptions(compiler=CompilerOptions(("8.6",))))


def test_an_absent_tensorrt_says_where_it_comes_from(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(BackendError, match="needs the Python module tensorrt") as caught:
        build(bundle, BuildOptions(backend="tensorrt"))
    assert "JetPack" in caught.value.action and "tensorrt-rtx" in caught.value.action
    assert not list((bundle / "builds").glob("*/build.json"))


def test_a_compiled_build_is_shown_and_checked_but_not_run(bundle: Path) -> None:
    command = ("build", bundle, "--backend", "tensorrt-rtx", "--max-length", LENGTH)
    made = run(*command, "--compute-capability", "8.9,8.6", "--json")
    assert made.exit_code == 0, made.output
    printed = json.loads(made.stdout)
    assert printed["build"] == f"tensorrt-rtx-cuda-float16-sm86-sm89-l{LENGTH}"
    assert printed["engine_bytes"] > printed["weight_bytes"]
    shown = run("inspect", bundle).stdout
    assert "6 cache updates and 3 attention layers" in shown and "8.6, 8.9" in shown and "not run" in shown
    for options, message in (
        (("--build", printed["build"]), "is for device 'cuda', not 'cpu'"),
        (("--device", "cuda"), "compiled for tensorrt-rtx, whose engines are experimental"),
        (("--device", "cuda", "--build", printed["build"]), "built without the backend 'tensorrt-rtx'"),
    ):
        refused = run("run", bundle, "--prompt-ids", "1,2", *options, "--json")
        assert refused.exit_code == 1
        assert message in json.loads(refused.stdout)["error"]["message"]
    checked = json.loads(run("check", bundle, "--json").stdout)
    stages = [stage["stage"] for stage in checked["stages"]]
    assert any("prepared graph" in stage for stage in stages) and not any(stage.endswith("engine") for stage in stages)


def test_a_prepared_build_is_compiled_later(bundle: Path) -> None:
    common = ("build", bundle, "--backend", "tensorrt-rtx", "--max-length", LENGTH, "--id", "made")
    assert run(*common, "--stage", "prepare").exit_code == 0
    assert "prepared, not compiled" in run("inspect", bundle).stdout
    assert run(*common, "--stage", "compile").exit_code == 0
    assert run(*common, "--stage", "compile").exit_code == 0  # again, replacing the first engines
    (made,) = open_bundle(bundle).builds()
    made.verify()
    assert sorted(path.name for path in made.path.iterdir()) == [
        "build.json",
        "target.data",
        "target.engine",
        "target.onnx",
    ]


@pytest.mark.parametrize("text", ["8", "8.6;8.9", "sm86", ""])
def test_a_misspelt_compute_capability_is_wrong_usage(text: str, bundle: Path) -> None:
    result = run("build", bundle, "--backend", "tensorrt-rtx", "--compute-capability", text)
    assert result.exit_code == 2 and "8.6,8.9,12.0" in result.stderr


@pytest.mark.parametrize(
    ("attention", "mask_extra"),
    [(AttentionKind.CAUSAL, 0), (AttentionKind.TREE, 7), (AttentionKind.BLOCK, 0), (AttentionKind.BLOCK, 16)],
)
@pytest.mark.parametrize("family", ["llama", "gemma3"])
def test_every_kind_of_attention_compiles(
    family: str, attention: AttentionKind, mask_extra: int, tmp_path: Path
) -> None:
    save(traced(family).model, tmp_path, "canonical")
    role = replace(role_of(traced(family)), attention=attention, mask_extra=mask_extra)
    windows = {state.window: 64 for state in role.states if state.window is not None}
    shapes = RoleShapes((1, 4, 16), 4, (CAPACITY,), window_capacities=windows)
    backend = TensorRTBackend(TENSORRT_RTX)
    made = backend.prepare(ir.load(tmp_path / "canonical.onnx"), role, Preparation(ngram(), shapes, "float16"))
    save(made.model, tmp_path, "target")
    roles = {"target": made.role}
    plan = ShapePlan(1, LENGTH, {"target": shapes})
    manifest = BuildManifest("made", "tensorrt-rtx", "cuda", {"target": "float16"}, plan, roles, (), "")
    options = CompilerOptions(("8.6",))
    (engine,) = backend.compile(Build(tmp_path, manifest), tmp_path, options, lambda step: None)
    assert engine.ranges["mask_slots"] == (1 + mask_extra, 4 + mask_extra, 16 + mask_extra)
    assert engine.layers["ATTENTION_OUTPUT"] == len(role.states) and not engine.not_native
