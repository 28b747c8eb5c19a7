"""The wheel in empty environments: what runs without torch and without onnx."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import Any

from ptgc.extras import how_to_install
from ptgc.spec.bundle import open_bundle
from tests.bundles import ROOT, tiny_bundle
from tests.models import prompt, save, tiny_model
from tests.wheels import environment_beside, pip

BUILD_PACKAGES = ("onnx", "onnx-ir", "ml-dtypes")
RUNTIME_PACKAGES = ("onnxruntime", "numpy", "typer", "rich", "tokenizers", "jinja2")
OPTIMUM_COMMAND = "optimum/commands/register/export_ptgc.py"


def environment(folder: Path, wheel: Path, *packages: str) -> Path:
    """The Python of a new environment with the wheel and exactly these packages, and what they need."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pip(python, "install", "-c", ROOT / "constraints.txt", *packages)
    pip(python, "install", "--no-deps", wheel)
    return python


def ptgc(python: Path, *arguments: object) -> Any:
    command = [str(python), "-m", "ptgc", *(str(part) for part in arguments), "--json"]
    run = subprocess.run(command, capture_output=True, text=True, cwd=python.parent, check=False)
    assert "Traceback" not in run.stderr, run.stderr
    return json.loads(run.stdout)


def importable(python: Path, name: str) -> bool:
    return subprocess.run([str(python), "-c", f"import {name}"], capture_output=True, check=False).returncode == 0


def test_the_wheel_holds_the_package_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"ptgc", "optimum"}
    assert [name for name in names if name.startswith("optimum/")] == [OPTIMUM_COMMAND]
    assert any(name.startswith("ptgc/runtime/_core.") and name.endswith(".so") for name in names)
    for name in (
        "ptgc/spec/ports.py",
        "ptgc/exporters/roles/target.py",
        "ptgc/graphs/piece.py",
        "ptgc/runtime/_core.pyi",
    ):
        assert name in names
    assert "ptgc/texts/prompts/chat.jsonl" in names
    assert "ptgc/py.typed" in names
    licences = {name.partition("/licenses/")[2] for name in names if "/licenses/" in name}
    assert licences == {"LICENSE", "runtime/vendor/nlohmann/LICENSE", "runtime/vendor/onnxruntime/LICENSE"}
    for name in ("include/ptgc.h", "include/ptgc.hpp", "lib/libptgc.so", "lib/cmake/ptgc/ptgcConfig.cmake"):
        assert f"ptgc/{name}" in names


def test_build_and_run_need_no_torch_and_run_needs_no_onnx(wheel: Path, place: Path, tmp_path: Path) -> None:
    bundle = tiny_bundle(place, "qwen2")
    builder = environment(tmp_path / "builder", wheel, *BUILD_PACKAGES, *RUNTIME_PACKAGES)
    assert not importable(builder, "torch")
    assert not importable(builder, "transformers")
    assert ptgc(builder, "build", bundle, "--precision", "int8", "--max-length", 128, "--replace")["weight_bytes"] > 0
    assert all(stage["passed"] for stage in ptgc(builder, "check", bundle)["stages"])
    refused = ptgc(builder, "export", bundle, "-o", tmp_path / "again")["error"]
    assert how_to_install("export") in refused["action"]

    runner = environment(tmp_path / "runner", wheel, *RUNTIME_PACKAGES)
    assert not importable(runner, "onnx")
    assert not importable(runner, "onnx_ir")
    ids = ",".join(str(token) for token in prompt(12))
    result = ptgc(runner, "run", bundle, "--prompt-ids", ids, "--max-new-tokens", 8)
    assert len(result["token_ids"]) == 8
    assert ptgc(runner, "inspect", bundle)["builds"]
    refused = ptgc(runner, "build", bundle)["error"]
    assert how_to_install("build") in refused["action"]

    pip(runner, "uninstall", "-y", "onnxruntime")
    refused = ptgc(runner, "run", bundle, "--prompt-ids", ids)["error"]
    assert refused["code"] == "backend"
    assert 'pip install "onnxruntime>=' in refused["action"]


def test_the_wheel_adds_a_command_to_optimum(wheel: Path, tmp_path: Path) -> None:
    """In an environment with the wheel, and this environment's packages without the editable install."""
    python = environment_beside(tmp_path / "venv", wheel)
    model = save(tiny_model("qwen2"), tmp_path / "model")
    command = [python, "-m", "optimum.commands.optimum_cli", "export", "ptgc"]
    run = subprocess.run(
        [*command, "-m", model, "--strategy", "autoregressive", tmp_path / "bundle"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert open_bundle(tmp_path / "bundle").manifest.plan.strategy == "autoregressive"


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = (
        "import sys, ptgc, ptgc.runtime, ptgc.exporters, ptgc.graphs, ptgc.spec.bundle; "
        "print(sorted({'torch', 'onnx', 'onnx_ir', 'onnxruntime', 'numpy', 'tokenizers'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.strip() == "[]"


def test_a_source_distribution_holds_what_the_core_is_compiled_with(tmp_path: Path) -> None:
    script = f"import scikit_build_core.build as b; print(b.build_sdist({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as members:
        names = {name.partition("/")[2] for name in members.getnames()}
    for folder, header in (("onnxruntime", "onnxruntime_c_api.h"), ("nlohmann", "json.hpp")):
        assert {f"runtime/vendor/{folder}/{header}", f"runtime/vendor/{folder}/LICENSE"} <= names
    assert {"runtime/cmake/aarch64-linux-gnu.cmake", "runtime/cmake/ptgcConfig.cmake.in"} <= names
