"""The options of a build, and what it refuses."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.pack import pack
from ptgc.compiler.build.stage import Stage
from ptgc.compiler.checking.check import check_bundle
from ptgc.compiler.precision.quantization.quantizer import Quantizer
from ptgc.errors import BuildError, UsageError
from ptgc.texts.sample_text import MOST_TOKENS
from tests.bundles import real_bundle, tiny_bundle


@pytest.mark.parametrize("backend", ["onnxruntime", "tensorrt-rtx"])
def test_a_build_is_calibrated_and_the_same_on_two_runs(backend: str, stories: Path, english: Path) -> None:
    options = BuildOptions(backend=backend, precision="int4", stage=Stage.PREPARE, max_length=128, calibration=english)
    made = build(stories, options)
    assert made.manifest.id == f"{backend}-{made.manifest.device}-int4-awq-gptq-l128"
    assert made.manifest.provenance["quantizer.target"] == "awq-gptq"
    plain = build(stories, replace(options, build_id="plain", calibration=None))
    assert made.manifest.weight_bytes == plain.manifest.weight_bytes
    assert made.manifest.files != plain.manifest.files
    number, _, digest = made.manifest.provenance["calibration.target"].partition(" tokens of sha256 ")
    assert int(number) == pytest.approx(MOST_TOKENS, rel=0.1)
    assert digest == hashlib.sha256(english.read_bytes()).hexdigest()
    again = build(stories, replace(options, build_id="again"))
    assert made.manifest.files == again.manifest.files


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has 0 tokens"),
        (b"Once upon a time", "at least 1024"),
        (b"\xff\xfe nothing", "not UTF-8"),
        (None, "is missing"),
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


@pytest.mark.parametrize(
    ("quantizer", "calibrated", "name"),
    [("rtn", False, "int4"), ("hqq", False, "int4-hqq"), ("awq", True, "int4-awq")],
)
def test_a_quantiser_is_part_of_what_a_build_is(
    quantizer: str, calibrated: bool, name: str, stories: Path, english: Path
) -> None:
    options = BuildOptions(
        precision="int4",
        stage=Stage.PREPARE,
        calibration=english if calibrated else None,
        quantizer=Quantizer(quantizer),
        max_length=128,
    )
    made = build(stories, options)
    assert made.manifest.id == f"onnxruntime-cpu-{name}-l128"
    assert made.manifest.provenance["quantizer.target"] == quantizer
    plain = build(stories, BuildOptions(precision="int4", stage=Stage.PREPARE, max_length=128, build_id="plain"))
    assert (made.manifest.files == plain.manifest.files) == (quantizer == "rtn")
    assert made.manifest.weight_bytes == plain.manifest.weight_bytes
    assert made.manifest.files == build(stories, replace(options, build_id="again")).manifest.files


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (BuildOptions(precision="int4", quantizer=Quantizer.AWQ), "awq needs a text"),
        (BuildOptions(precision="int4", quantizer=Quantizer.GPTQ), "gptq needs a text"),
        (BuildOptions(precision="float32", quantizer=Quantizer.HQQ), "no role of this build has any rounded"),
        (BuildOptions(precision="int4", quantizer=Quantizer.RTN, stage=Stage.COMPILE), "for preparing a build"),
    ],
)
def test_a_quantiser_that_cannot_work_is_refused(options: BuildOptions, message: str, place: Path) -> None:
    with pytest.raises((BuildError, UsageError), match=message):
        build(real_bundle(place, "stories15m"), options)


def test_a_quantiser_is_refused_where_its_text_or_its_scales_would_be_of_no_use(place: Path, english: Path) -> None:
    options = BuildOptions(precision="int4", quantizer=Quantizer.HQQ, calibration=english)
    with pytest.raises(UsageError, match="hqq reads no text"):
        build(real_bundle(place, "stories15m"), options)
    options = BuildOptions("tensorrt-rtx", precision="w8a8", quantizer=Quantizer.AWQ, calibration=english)
    with pytest.raises(BuildError, match="SmoothQuant"):
        build(real_bundle(place, "stories15m"), options)


def test_a_text_for_activations_alone_goes_with_any_quantiser(stories: Path, english: Path) -> None:
    options = BuildOptions(
        "tensorrt-rtx",
        precision="fp8",
        quantizer=Quantizer.RTN,
        calibration=english,
        stage=Stage.PREPARE,
        max_length=128,
    )
    made = build(stories, options)
    assert made.manifest.id == "tensorrt-rtx-cuda-fp8-calibrated-l128"
    assert made.manifest.provenance["quantizer.target"] == "rtn"
