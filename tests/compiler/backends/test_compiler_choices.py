"""Engines with compiler options, engines made elsewhere, and engines of other versions, through a whole build."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ptgc.compiler.backends import compile_cost
from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.compiler_options import CompilerOptions, HardwareCompatibility
from ptgc.compiler.build.stage import Stage
from ptgc.compiler.checking import engine_files
from ptgc.compiler.checking.check import check_bundle
from ptgc.errors import BuildError, EngineStaleError
from ptgc.spec.bundle import Build, open_build
from tests.bundles import tiny_bundle

pytestmark = pytest.mark.tensorrt
pytest.importorskip("tensorrt_rtx")


@pytest.fixture
def bundle(place: Path, tmp_path: Path) -> Path:
    copy = Path(shutil.copytree(tiny_bundle(place, "llama"), tmp_path / "bundle"))
    shutil.rmtree(copy / "builds", ignore_errors=True)
    return copy


OPTIONS = BuildOptions(backend="tensorrt-rtx", max_length=64, build_id="rtx")


def compiled(bundle: Path, compiler: CompilerOptions, stage: Stage = Stage.COMPILE) -> Build:
    return build(bundle, replace(OPTIONS, compiler=compiler, stage=stage))


def test_options_are_told_and_recorded(bundle: Path) -> None:
    made = compiled(
        bundle,
        CompilerOptions(("8.6",), 1, workspace=64, hardware_compatibility=HardwareCompatibility.AMPERE_PLUS),
        Stage.ALL,
    )
    assert made.manifest.provenance["compiler"] == {
        "--builder-optimization-level": "1",
        "--workspace": "64",
        "--hardware-compatibility-level": "ampere+",
    }
    assert "compiler" not in compiled(bundle, CompilerOptions()).manifest.provenance


@pytest.mark.parametrize(
    ("options", "words", "action"),
    [
        (CompilerOptions(refit=True), "compiled where the GPU is", "--refit"),
        (CompilerOptions(strip_weights=True), "compiled where the GPU is", "--strip-weights"),
        (CompilerOptions(version_compatible=True), "lean runtime", "--version-compatible"),
    ],
)
def test_what_needs_more_than_there_is_says_what(
    options: CompilerOptions, words: str, action: str, bundle: Path
) -> None:
    with pytest.raises(BuildError, match=words) as caught:
        compiled(bundle, options, Stage.ALL)
    assert action in caught.value.action
    assert not open_build(bundle / "builds" / "rtx").manifest.engines  # it is prepared


def test_too_little_memory_leaves_the_engine_that_was_there(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = compiled(bundle, CompilerOptions(), Stage.ALL)
    monkeypatch.setattr(compile_cost, "available_memory", lambda: 10**6)
    with pytest.raises(BuildError, match=r"takes about 0\.7 GB of memory and 1 s; 0\.0 GB are free"):
        compiled(bundle, CompilerOptions(("8.6",)))
    assert open_build(before.path).manifest == before.manifest
    before.verify()


def test_an_engine_from_elsewhere_is_adopted_and_checked(bundle: Path, tmp_path: Path) -> None:
    before = compiled(bundle, CompilerOptions(("8.6",)), Stage.ALL)
    elsewhere = tmp_path / "saved.engine"
    shutil.copyfile(before.path / "target.engine", elsewhere)
    made = compiled(bundle, CompilerOptions(engines={"target": elsewhere}))
    assert (made.path / "target.engine").read_bytes() == elsewhere.read_bytes()
    assert made.manifest.provenance["adopted"] == ["target"]
    assert made.manifest.engines[0].layers == {}
    made.verify()
    other = bytearray(elsewhere.read_bytes())
    other[25] += 1
    elsewhere.write_bytes(bytes(other))
    with pytest.raises(EngineStaleError, match=r"made by tensorrt-rtx \d+\.\d+\.\d+\.\d+, and "):
        compiled(bundle, CompilerOptions(engines={"target": elsewhere}))
    elsewhere.write_bytes(b"ftrt" + bytes(other[4:]))
    with pytest.raises(BuildError, match="is for tensorrt, not tensorrt-rtx"):
        compiled(bundle, CompilerOptions(engines={"target": elsewhere}))
    with pytest.raises(BuildError, match="this build has: target"):
        compiled(bundle, CompilerOptions(engines={"drafter": elsewhere}))
    assert open_build(made.path).manifest == made.manifest


def test_check_names_engines_of_another_version_and_the_command_that_renews_them(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = compiled(bundle, CompilerOptions(("8.6", "12.0"), workspace=64), Stage.ALL)
    (fine,) = [report for report in check_bundle(bundle) if report.stage == "rtx: engines"]
    assert fine.passed
    version = json.loads((made.path / "build.json").read_text())["provenance"]["backend_version"]
    monkeypatch.setattr(engine_files, "installed_version", lambda _: "99.1.0.0")
    (stale,) = [report for report in check_bundle(bundle) if report.stage == "rtx: engines"]
    assert stale.divergences == [
        f"engine_stale: target.engine was made by tensorrt-rtx {version}, and 99.1.0.0 is installed; compile it again: "
        f"ptgc build {bundle} --backend tensorrt-rtx --stage compile --id rtx "
        "--compute-capability 8.6,12.0 --workspace 64"
    ]
