"""What a build is told, and what it refuses."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from ptgc.compiler.build import BuildOptions, build
from ptgc.compiler.check import check_bundle
from ptgc.compiler.pack import pack
from ptgc.compiler.stage import Stage
from ptgc.errors import BuildError, UsageError
from ptgc.texts.sample_text import MOST_TOKENS
from tests.bundles import real_bundle, tiny_bundle


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
