"""ONNX Runtime versions: the oldest supported and the newest one run a build, an older one is refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ptgc.compiler.backends import onnxruntime_package
from ptgc.compiler.session_options import session_options
from ptgc.errors import BackendError
from ptgc.runtime import Generator
from ptgc.spec.bundle import open_bundle
from ptgc.spec.onnxruntime_version import MIN_ONNXRUNTIME, is_older
from tests.bundles import ROOT, build_id, tiny_build
from tests.models import prompt
from tests.wheels import pip

OLDER = "1.24.4"


def run(bundle: Path, build: str, **environment: str) -> Any:
    ids = ",".join(str(token) for token in prompt(9))
    command = [sys.executable, "-m", "ptgc", "run", bundle, "--build", build]
    done = subprocess.run(
        [*command, "--prompt-ids", ids, "--max-new-tokens", "8", "--json"],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def older_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that reports an older version; nothing else of it may be called."""
    folder = tmp_path_factory.mktemp("older")
    source, library = folder / "older.c", folder / "libonnxruntime.so"
    source.write_text(
        "#include <onnxruntime_c_api.h>\n"
        "static const OrtApi* ORT_API_CALL Api(uint32_t version) { return (const OrtApi*)(size_t)(version > 0); }\n"
        f'static const char* ORT_API_CALL Version(void) {{ return "{OLDER}"; }}\n'
        "static const OrtApiBase base = {Api, Version};\n"
        "const OrtApiBase* ORT_API_CALL OrtGetApiBase(void) { return &base; }\n"
    )
    headers = f"-I{ROOT / 'runtime' / 'vendor' / 'onnxruntime'}"
    subprocess.run(["cc", "-shared", "-fPIC", headers, "-o", library, source], check=True)
    return library


@pytest.mark.network
@pytest.mark.parametrize("version", [f"=={MIN_ONNXRUNTIME}.0", ""], ids=["oldest", "newest"])
def test_the_oldest_and_the_newest_version_run_builds(version: str, place: Path, tmp_path: Path) -> None:
    pip(sys.executable, "install", "--no-deps", "--target", tmp_path, f"onnxruntime{version}")
    for batch_size in (1, 2):  # with GroupQueryAttention, and with TensorScatter
        bundle, build = tiny_build(place, "llama", batch_size=batch_size), build_id("float32", batch_size)
        with Generator(bundle, build=build) as generator:
            expected = generator.generate(prompt(9), max_new_tokens=8).token_ids
        assert run(bundle, build, PYTHONPATH=str(tmp_path))["token_ids"] == expected


def test_an_older_library_is_refused_with_the_version_to_install(place: Path, older_library: Path) -> None:
    bundle = tiny_build(place, "llama")
    refused = run(bundle, build_id("float32", 1), PTGC_ONNXRUNTIME=str(older_library))["error"]
    assert refused["code"] == "backend"
    assert OLDER in refused["message"] and f"{MIN_ONNXRUNTIME} or newer" in refused["message"]
    assert f'pip install "onnxruntime>={MIN_ONNXRUNTIME}"' in refused["action"]


def test_an_older_package_is_refused_before_it_loads_a_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime_package, "version", lambda _: OLDER)
    with pytest.raises(BackendError, match=OLDER) as refused:
        session_options("nowhere.onnx")
    assert f'"onnxruntime-gpu>={MIN_ONNXRUNTIME}"' in refused.value.action


def test_a_build_records_the_oldest_version_that_runs_it(place: Path) -> None:
    build = open_bundle(tiny_build(place, "llama")).build(build_id("float32", 1), "cpu")
    assert build.manifest.min_onnxruntime == MIN_ONNXRUNTIME
    assert f'cpu = ["onnxruntime>={MIN_ONNXRUNTIME}"]' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("version", "older"),
    [("1.24.4", True), ("1.9.0", True), ("1.25.0", False), ("1.25", False), ("1.31.1", False), ("2.0.0.dev1", False)],
)
def test_versions_are_compared_by_their_numbers(version: str, older: bool) -> None:
    assert is_older(version, MIN_ONNXRUNTIME) is older
