"""PyTorch's build for CUDA on a machine that has no CUDA."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bundles import ROOT

sys.path.insert(0, str(ROOT / "tools"))

import install_torch  # type: ignore[import-not-found]  # a script


def compile_library(path: Path, source: str, *options: str) -> None:
    code = path.with_suffix(".c")
    code.write_text(source)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", path, code, *options], check=True)


def refusal_of(library: Path) -> str:
    """Why a process of its own cannot load a library; empty if it can. In this one torch may have opened CUDA's."""
    code = "import ctypes, os, sys; ctypes.CDLL(sys.argv[1], mode=os.RTLD_NOW)"
    return subprocess.run([sys.executable, "-c", code, library], capture_output=True, text=True).stderr


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages with a torch that is linked with missing CUDA libraries."""
    library = tmp_path / "torch" / "lib" / "libtorch_cuda.so"
    library.parent.mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name, function in (("libnccl.so.2", "ncclSend"), ("libcudnn.so.9", "cudnnCreate")):
        compile_library(elsewhere / name, f"void {function}(void) {{}}\n", f"-Wl,-soname,{name}")
    source = "void ncclSend(void); void cudnnCreate(void); int both(void) { ncclSend(); cudnnCreate(); return 7; }\n"
    linked = [elsewhere / "libnccl.so.2", elsewhere / "libcudnn.so.9", "-Wl,-rpath,$ORIGIN"]
    compile_library(library, source, *linked)
    metadata = tmp_path / "torch-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: torch\nVersion: 1.0\nRequires-Dist: sympy\nRequires-Dist: triton==3\n"
        "Requires-Dist: nvidia-nccl-cu13==2; platform_system == 'Linux'\nRequires-Dist: cuda-toolkit[cublas]\n"
    )
    (metadata / "RECORD").write_text("torch-1.0.dist-info/METADATA,,\n")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_libraries_of_cuda_are_replaced_by_empty_ones(site: Path) -> None:
    library = site / "torch" / "lib" / "libtorch_cuda.so"
    assert re.search(r"libnccl\.so\.2|libcudnn\.so\.9", refusal_of(library))
    install_torch._write_empty_libraries()
    assert {file.name for file in library.parent.glob("*.so.*")} == {"libnccl.so.2", "libcudnn.so.9"}
    assert refusal_of(library) == ""


def test_packages_of_cuda_are_no_longer_required(site: Path) -> None:
    install_torch._drop_requirements()
    text = (site / "torch-1.0.dist-info" / "METADATA").read_text()
    assert [line for line in text.splitlines() if "Requires" in line] == ["Requires-Dist: sympy"]
