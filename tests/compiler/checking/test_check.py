"""`check` finds what is wrong, where it is wrong, and nothing else."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest
import torch
from transformers import BertConfig, BertForMaskedLM

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.compiler.checking import engine
from ptgc.compiler.checking.check import check_bundle
from ptgc.compiler.checking.graphs import check_outputs
from ptgc.compiler.checking.report import StageReport
from ptgc.errors import BundleError
from ptgc.exporters import export
from ptgc.spec.bundle import open_bundle
from ptgc.spec.canvas import CanvasPlan, PolicyPlan
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.reference import Reference
from ptgc.spec.strategies.ctc import ctc
from ptgc.spec.strategies.levenshtein import levenshtein
from ptgc.spec.strategies.ngram import ngram
from tests.bundles import build_id, own_copy, tiny_build
from tests.loops import INSERTION, SOURCE_EDITS, loop_build
from tests.models import prompt
from tests.other_models import tiny_ctc, tiny_insertion, tiny_levenshtein, tiny_marian, tiny_source_editor

BUILD = build_id("float32", 1)


@pytest.fixture
def bundle(place: Path, tmp_path: Path) -> Path:
    return own_copy(place, tmp_path / "bundle")


def change_weight(folder: Path, manifest: str, graph: str, module: str, change: Callable[[Any], None]) -> str:
    """Change the stored tensor of a module and every hash over it; return the tensor's name."""
    nodes = [node for node in ir.load(folder / graph).graph if node.metadata_props.get("ptgc.module") == module]
    values = [value for node in nodes for value in node.inputs if value is not None and value.is_initializer()]
    name, tensor = next((str(value.name), value.const_value) for value in values if value.dtype == ir.DataType.FLOAT)
    assert isinstance(tensor, ir.ExternalTensor)
    data = folder / Path(graph).parent / tensor.location
    content = bytearray(data.read_bytes())
    change(np.frombuffer(content, np.float32, tensor.size, tensor.offset or 0))
    data.write_bytes(content)
    document = json.loads((folder / manifest).read_text())
    for entry in document["files"]:
        if (folder / entry["path"]) == data:
            entry["sha256"] = hashlib.sha256(content).hexdigest()
    (folder / manifest).write_text(json.dumps(document))
    return name


def put_nan(values: Any) -> None:
    values[3:5] = np.nan


def double(values: Any) -> None:
    values *= 2


def first_failure(reports: list[StageReport]) -> StageReport:
    return next(report for report in reports if not report.passed)


def test_a_sound_bundle_passes_every_stage_in_order(bundle: Path) -> None:
    reports = check_bundle(bundle)
    names = ["weights", "canonical graph"]
    names += [f"{BUILD}: {stage}" for stage in ("weights", "prepared graph", "engine", "engine, sampling")]
    assert [report.stage for report in reports] == names
    assert all(report.passed for report in reports)
    assert reports[1].kept == reports[1].tokens > 0
    assert reports[-1].kept == reports[-1].tokens > 0


def test_nan_in_the_weights_is_named_with_role_and_tensor(bundle: Path) -> None:
    module = "model.layers.1.mlp.down_proj"
    tensor = change_weight(bundle, "manifest.json", "graphs/target.onnx", module, put_nan)
    reports = check_bundle(bundle)
    assert [report.stage for report in reports] == ["weights"]
    what = f"tensor {tensor} of {module} holds 2 values that are NaN or infinite"
    assert reports[0].divergences == [f"role target: {what}"]


def test_nan_in_a_build_is_named_and_nothing_runs_on_it(bundle: Path) -> None:
    folder = bundle / "builds" / BUILD
    name = "model.layers.0.self_attn.o_proj"
    change_weight(folder, "build.json", "target.onnx", name, put_nan)
    reports = check_bundle(bundle)
    assert reports[-1].stage == f"{BUILD}: weights"
    assert name in reports[-1].divergences[0]


def test_a_changed_canonical_graph_is_the_first_stage_that_differs(bundle: Path) -> None:
    module = "model.layers.1.mlp.down_proj"
    change_weight(bundle, "manifest.json", "graphs/target.onnx", module, double)
    reports = check_bundle(bundle)
    assert first_failure(reports).stage == "canonical graph"
    assert "made from another export" in reports[-1].divergences[0]


def test_a_changed_build_is_named_with_the_module_that_differs(bundle: Path) -> None:
    module = "model.layers.1.self_attn.o_proj"
    change_weight(bundle / "builds" / BUILD, "build.json", "target.onnx", module, double)
    failed = first_failure(check_bundle(bundle))
    assert failed.stage == f"{BUILD}: prepared graph"
    assert failed.hint.startswith(f"module {module} is the first that differs")


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_quantised_build_is_consistent_and_its_difference_is_measured(
    place: Path, tmp_path: Path, precision: str
) -> None:
    copy = Path(shutil.copytree(tiny_build(place, "llama", precision), tmp_path / "bundle"))
    for made in (copy / "builds").iterdir():
        if made.is_dir() and made.name != build_id(precision, 1):
            shutil.rmtree(made)
    reports = {report.stage: report for report in check_bundle(copy)}
    prepared = reports[f"{build_id(precision, 1)}: prepared graph"]
    assert prepared.passed
    assert prepared.verdict == "consistent"
    assert prepared.largest_difference > 0


def test_what_pytorch_writes_now_is_compared_with_what_it_wrote(bundle: Path) -> None:
    recorded = json.loads((bundle / "reference" / "target.json").read_text())
    assert check_bundle(bundle, original=recorded)[0].stage == "PyTorch"
    recorded["prompts"][1]["token_ids"][4] += 1
    failed = first_failure(check_bundle(bundle, original=recorded))
    assert failed.stage == "PyTorch"
    assert failed.divergences == ["text 1: 1 tokens are others"]


def reference() -> Reference:
    return Reference(prompt(8), [5, 6, 7, 8], [], [])


def result(ids: list[int]) -> Any:
    return SimpleNamespace(token_ids=ids, strategy="ngram")


@pytest.mark.parametrize(
    ("judged", "undecided", "divergences"),
    [((0.01, 0.02), 1, 0), ((0.01, 0.001), 0, 1), (None, 0, 1)],
    ids=["a tie at this precision", "a firm choice", "a build that cannot be asked"],
)
def test_texts_may_part_where_two_tokens_are_closer_than_widths_differ(
    monkeypatch: pytest.MonkeyPatch, judged: tuple[float, float] | None, undecided: int, divergences: int
) -> None:
    monkeypatch.setattr(engine, "undecided", lambda build, context: judged)
    report = StageReport("engine", exact=False, tokens=400)
    build: Any = None
    texts = ([result([5, 6, 7, 8])], [result([5, 6, 9, 8])])
    engine._check_drafted(report, build, [reference()], texts)
    assert (len(report.undecided), len(report.divergences)) == (undecided, divergences)
    assert "ngram leaves plain decoding at token 2" in (report.undecided + report.divergences)[0]


def test_more_ties_than_one_in_a_hundred_tokens_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "undecided", lambda build, context: (0.0, 1.0))
    report = StageReport("engine", exact=False, tokens=12)
    build: Any = None
    texts = [result([5, 6, 7, 8])] * 3, [result([5, 6, 9, 8])] * 3
    engine._check_drafted(report, build, [reference()] * 3, texts)
    assert len(report.undecided) == 3
    assert "1 % of the tokens may" in report.divergences[0]


def test_how_firm_a_choice_is_is_measured_on_the_build(place: Path) -> None:
    build = open_bundle(tiny_build(place, "llama", "float32")).build(BUILD)
    measured = engine.undecided(build, prompt(20))
    assert measured is not None
    gap, difference = measured
    assert gap > 0
    assert 0 <= difference < 1e-3


def test_a_sampled_text_that_changes_with_drafts_is_reported() -> None:
    class Loaded:
        def generate(self, prompts: list[Any], **options: Any) -> list[Any]:
            assert options["seed"] == engine.SAMPLING["seed"]
            return [result([5, 6, 7, 8] if options.get("plain") else [5, 6, 9, 8]) for _ in prompts]

    generator: Any = Loaded()
    report = engine._check_sampled("engine, sampling", generator, [reference()])
    assert not report.passed
    assert "sampled with seed" in report.divergences[0]


def test_a_role_without_texts_is_compared_with_its_canonical_graph(bundle: Path) -> None:
    folder = bundle / "builds" / BUILD
    opened = open_bundle(bundle)
    canonical, made = (one.manifest.roles["target"] for one in (opened, opened.build(BUILD)))
    before, after = (bundle / canonical.graph, canonical), (folder / made.graph, made)
    assert check_outputs("same", before, after, 512, exact=True).passed
    change_weight(folder, "build.json", "target.onnx", "model.layers.1.self_attn.o_proj", double)
    assert not check_outputs("other", before, after, 512, exact=True).passed


def test_a_canvas_is_filled_by_the_graph_as_by_pytorch(tmp_path: Path) -> None:
    torch.manual_seed(3)
    sizes: dict[str, Any] = {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 96,
    }
    model = BertForMaskedLM(BertConfig(vocab_size=300, max_position_embeddings=128, **sizes)).eval()
    canvas = CanvasPlan(mask_token_id=4, num_steps=6, block_length=8, policy=PolicyPlan(threshold=0.02))
    plan = DecodePlan("masked-diffusion", Loop.CANVAS, Guarantee.LOSSY, canvas=canvas)
    bundle = export({"denoiser": model}, plan, tmp_path / "bundle")
    reports = check_bundle(bundle)
    assert [(report.stage, report.passed) for report in reports] == [("weights", True), ("canonical graphs", True)]
    assert reports[-1].kept == reports[-1].tokens > 0
    document = json.loads((bundle / "reference" / "denoiser.json").read_text())
    document["prompts"][1]["token_ids"][3] += 1
    (bundle / "reference" / "denoiser.json").write_text(json.dumps(document))
    files = json.loads((bundle / "manifest.json").read_text())
    for entry in files["files"]:
        if entry["path"] == "reference/denoiser.json":
            content = (bundle / entry["path"]).read_bytes()
            entry |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (bundle / "manifest.json").write_text(json.dumps(files))
    assert first_failure(check_bundle(bundle)).divergences == ["text 1: leaves the original's text at token 3"]


@pytest.mark.parametrize(
    ("roles", "plan"),
    [
        (tiny_ctc, ctc(blank_token_id=0, upsampling=2)),
        (tiny_insertion, INSERTION),
        (tiny_source_editor, SOURCE_EDITS),
        (
            tiny_levenshtein,
            levenshtein(max_rounds=6, placeholder_token_id=3, bos_token_id=1, eos_token_id=2, pad_token_id=0),
        ),
    ],
    ids=["one-shot", "insertion", "source-edits", "levenshtein"],
)
def test_other_loops_run_on_the_graphs_as_in_pytorch(
    tmp_path: Path, roles: Callable[[], dict[str, Any]], plan: DecodePlan
) -> None:
    reports = check_bundle(export(roles(), plan, tmp_path / "bundle"))
    assert [(report.stage, report.passed) for report in reports] == [("weights", True), ("canonical graphs", True)]
    assert reports[-1].kept == reports[-1].tokens > 0


@pytest.mark.parametrize(("name", "plan"), [("insertion", INSERTION), ("source-editor", SOURCE_EDITS)])
def test_builds_of_edit_plans_pass(name: str, plan: DecodePlan, place: Path) -> None:
    made = loop_build(place, name, plan, 1, "float32")
    reports = {report.stage: report for report in check_bundle(made.parents[1])}
    assert all(report.passed for report in reports.values())
    engine = reports[f"{made.name}: engine"]
    assert engine.kept == engine.tokens > 0


def test_an_encoder_decoder_is_checked_with_its_encoder(tmp_path: Path) -> None:
    model = tiny_marian()
    bundle = export({"target": model, "encoder": model}, ngram(), tmp_path / "bundle")
    name = build(bundle, BuildOptions(precision="float32", stage=Stage.PREPARE)).manifest.id
    reports = check_bundle(bundle)
    assert all(report.passed for report in reports)
    compared = {report.stage: report.tokens for report in reports}
    assert compared["canonical graph"] == compared[f"{name}: prepared graph"] == compared[f"{name}: engine"] > 0
    assert f"{name}: prepared graph of the encoder" in compared


def test_weights_with_a_second_name_are_refused_with_what_to_do(bundle: Path, tmp_path: Path) -> None:
    data = bundle / "graphs" / "target.data"
    (tmp_path / "second").hardlink_to(data)
    with pytest.raises(BundleError, match="hard links"):
        check_bundle(bundle)
    with pytest.raises(BundleError, match=r"cp target\.data copy"):
        build(bundle, BuildOptions(precision="int8", build_id="other"))
