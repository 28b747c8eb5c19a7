"""How close a build stays to its model."""

from __future__ import annotations

import copy
import json
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.compiler.checking.check import check_bundle
from ptgc.compiler.checking.fidelity import Fidelity, measure_fidelity
from ptgc.compiler.graph_session import GraphSession
from ptgc.exporters import export
from ptgc.spec.bundle import open_bundle
from ptgc.spec.strategies.ngram import ngram
from ptgc.texts.sample_text import read_sample_text
from tests.models import tiny_model


def test_fidelity_falls_with_the_bits_and_rises_with_calibration(stories: Path, tmp_path: Path) -> None:
    bundle = open_bundle(stories)
    story = tmp_path / "story.txt"
    story.write_text(generated_stories(stories), encoding="utf-8")
    found: dict[str, Fidelity] = {}
    sample = read_sample_text(story, bundle)
    half = len(sample.sequences) // 2
    for name, precision, calibration in (("int8", "int8", None), ("gptq", "int4", story), ("int4", "int4", None)):
        options = BuildOptions(precision=precision, stage=Stage.PREPARE, calibration=calibration, build_id=name)
        made = build(stories, options)
        sessions = [
            GraphSession(folder / role.graph, role, max(map(len, sample.sequences)))
            for folder, role in (
                (stories, bundle.manifest.roles["target"]),
                (made.path, made.manifest.roles["target"]),
            )
        ]
        found[name] = measure_fidelity(sessions[0], sessions[1], sample.sequences[half:])
    for better, worse in pairwise(("int8", "gptq", "int4")):
        assert found[better].divergence < found[worse].divergence
        assert found[better].kept > found[worse].kept
    assert found["int8"].divergence < 0.01
    assert found["int8"].perplexity == pytest.approx(found["int8"].original_perplexity, rel=0.05)


def generated_stories(bundle: Path) -> str:
    """A text of the kind that the model knows, namely its own."""
    from ptgc.runtime import Generator

    build(bundle, BuildOptions(precision="float32", stage=Stage.PREPARE, build_id="writer"))
    with Generator(bundle, build="writer") as generator:
        texts = [
            generator.generate("Once upon a time", max_new_tokens=200, temperature=1.0, seed=seed, ignore_eos=True)
            for seed in range(12)
        ]
    return "\n".join(text.text for text in texts)


def test_check_measures_fidelity_on_a_text(stories: Path, english: Path) -> None:
    build(stories, BuildOptions(precision="int8", stage=Stage.PREPARE))
    on_references = check_bundle(stories)
    on_text = check_bundle(stories, text=english)
    for reports, least in ((on_references, 100), (on_text, 1000)):
        found = [report.fidelity for report in reports if report.fidelity is not None]
        assert [report.stage for report in reports if report.fidelity] == ["onnxruntime-cpu-int8: prepared graph"]
        assert found[0].tokens >= least
        assert 0 < found[0].divergence < 0.05
        assert json.dumps(found[0].to_json())


def test_fidelity_of_a_half_precision_checkpoint_is_measured_in_float32(tmp_path: Path) -> None:
    model = copy.deepcopy(tiny_model("llama")).to(torch.bfloat16)
    bundle = export({"target": model}, ngram(), tmp_path / "half")
    build(bundle, BuildOptions(precision="int8", stage=Stage.PREPARE, max_length=128))
    (found,) = (report.fidelity for report in check_bundle(bundle) if report.fidelity is not None)
    assert found.tokens > 50
    assert 0 < found.divergence < 0.05
