"""What rounding keeps of a matrix, and of a model."""

from __future__ import annotations

import copy
import hashlib
import json
import pydoc_data.topics
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from ptgc.compiler.build import BuildOptions, build
from ptgc.compiler.check import check_bundle
from ptgc.compiler.checking.fidelity import Fidelity, measure_fidelity
from ptgc.compiler.graph_session import GraphSession
from ptgc.compiler.pack import pack
from ptgc.compiler.quantization import second_moments as module
from ptgc.compiler.quantization.gptq import quantize_gptq
from ptgc.compiler.quantization.rounding import quantize_blocks, quantize_channels
from ptgc.compiler.quantization.second_moments import second_moments
from ptgc.compiler.stage import Stage
from ptgc.errors import BuildError, UsageError
from ptgc.exporters import export
from ptgc.graphs.linear import linears
from ptgc.graphs.storage import serialize
from ptgc.spec.bundle import open_bundle
from ptgc.spec.plan import ngram
from ptgc.texts.sample_text import MOST_TOKENS, read_sample_text
from tests.bundles import real_bundle, tiny_bundle
from tests.compiler.prepared import prepared_model
from tests.models import prompt, tiny_model

ENGLISH = "\n\n".join(text for _, text in sorted(pydoc_data.topics.topics.items()))[:60_000]


@pytest.fixture
def english(tmp_path: Path) -> Path:
    path = tmp_path / "english.txt"
    path.write_text(ENGLISH, encoding="utf-8")
    return path


@pytest.fixture
def stories(place: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(real_bundle(place, "stories15m"), tmp_path / "stories"))


def correlated(rows: int, samples: int) -> np.ndarray:
    """Inputs `[samples, rows]` that lie near a few directions, as hidden states do."""
    generator = np.random.default_rng(1)
    directions = generator.normal(size=(rows // 8, rows))
    noise = 0.1 * generator.normal(size=(samples, rows))
    return (generator.normal(size=(samples, rows // 8)) @ directions + noise).astype(np.float32)


@pytest.mark.parametrize(("bits", "block_size"), [(4, 32), (4, 128), (4, None), (8, 64), (8, None)])
def test_gptq_keeps_more_of_a_product_than_rounding_to_the_nearest(bits: int, block_size: int | None) -> None:
    inputs = correlated(256, 2048)
    matrix = np.random.default_rng(2).normal(size=(256, 24)).astype(np.float32)

    def error(integers: np.ndarray, scales: np.ndarray) -> float:
        restored = (integers.reshape(*scales.shape, -1) * scales[..., None]).reshape(integers.shape)
        return float(np.square(inputs @ (restored.T - matrix)).mean())

    plain = quantize_channels(matrix, bits) if block_size is None else quantize_blocks(matrix, bits, block_size)
    integers, scales = quantize_gptq(matrix, inputs.T @ inputs, bits, block_size)
    assert integers.dtype == np.int8
    assert -(1 << bits - 1) <= integers.min()
    assert integers.max() < 1 << bits - 1
    assert block_size is not None or (scales > 0).all()
    assert error(integers, scales) < 0.6 * error(*plain)


def test_inputs_that_are_always_zero_are_rounded_all_the_same() -> None:
    inputs = correlated(64, 512)
    inputs[:, :40] = 0
    matrix = np.random.default_rng(3).normal(size=(64, 8)).astype(np.float32)
    integers, scales = quantize_gptq(matrix, inputs.T @ inputs, 4, 32)
    restored = integers.reshape(8, 2, 32) * scales[..., None]
    assert np.abs(restored.reshape(8, 64).T - matrix).max() < 4 * np.abs(scales).max()
    integers, _ = quantize_gptq(np.zeros_like(matrix), np.zeros((64, 64), np.float32), 4, 32)
    assert not integers.any()


def test_moments_are_those_of_every_linear_layers_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, role = prepared_model("llama", tmp_path)
    before = serialize(model)
    text = [prompt(40), prompt(17)]
    found = second_moments(model, role, text)
    assert serialize(model) == before
    assert set(found) == {linear.input_name for linear in linears(model.graph)}
    for linear in linears(model.graph):
        moments = found[linear.input_name]
        assert moments.shape == (linear.in_features, linear.in_features)
        assert (np.linalg.eigvalsh(moments) > -1e-3 * np.abs(moments).max()).all()
    monkeypatch.setattr(module, "_BYTES", 1)  # one at a time
    for name, moments in second_moments(model, role, text).items():
        np.testing.assert_array_equal(moments, found[name])


@pytest.mark.parametrize("backend", ["onnxruntime", "tensorrt-rtx"])
def test_a_build_is_calibrated_and_the_same_on_two_runs(backend: str, stories: Path, english: Path) -> None:
    options = BuildOptions(backend=backend, precision="int4", stage=Stage.PREPARE, max_length=128, calibration=english)
    made = build(stories, options)
    assert made.manifest.id == f"{backend}-{made.manifest.device}-int4-gptq-l128"
    plain = build(stories, replace(options, build_id="plain", calibration=None))
    assert {entry.path: entry.size for entry in made.manifest.files} == {
        entry.path: entry.size for entry in plain.manifest.files
    }
    assert made.manifest.files != plain.manifest.files
    number, _, digest = made.manifest.provenance["calibration.target"].partition(" tokens of sha256 ")
    assert int(number) == pytest.approx(MOST_TOKENS, rel=0.1)
    assert digest == hashlib.sha256(english.read_bytes()).hexdigest()
    again = build(stories, replace(options, build_id="again"))
    assert made.manifest.files == again.manifest.files


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
    """Text of the kind that the model knows: its own."""
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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has 0 tokens"),
        (b"Once upon a time", "at least 1024"),
        (b"\xff\xfe nothing", "not UTF-8"),
        (None, "cannot be read"),
    ],
)
def test_a_text_that_says_nothing_is_refused(place: Path, tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "text.txt"
    if content is not None:
        path.write_bytes(content)
    bundle = real_bundle(place, "stories15m")
    with pytest.raises(UsageError, match=message):
        build(bundle, BuildOptions(precision="int4", calibration=path, build_id="refused"))
    assert not (bundle / "builds" / "refused").exists()


def test_a_text_is_refused_where_nothing_would_read_it(stories: Path, english: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--stage compile takes one that is prepared"):
        build(stories, BuildOptions(precision="int4", calibration=english, stage=Stage.COMPILE))
    build(stories, BuildOptions(precision="int8", stage=Stage.PREPARE))
    packed = pack(stories, tmp_path / "packed", keep_references=True)
    with pytest.raises(UsageError, match="--text measures"):
        check_bundle(packed.path, text=english)


def test_calibration_that_nothing_would_use_is_refused(place: Path, english: Path) -> None:
    with pytest.raises(BuildError, match="this build has target=float32"):
        build(real_bundle(place, "stories15m"), BuildOptions(precision="float32", calibration=english))


def test_a_bundle_without_a_tokenizer_cannot_read_a_text(place: Path, english: Path) -> None:
    with pytest.raises(UsageError, match="no tokenizer"):
        build(tiny_bundle(place, "llama"), BuildOptions(precision="int4", calibration=english))
