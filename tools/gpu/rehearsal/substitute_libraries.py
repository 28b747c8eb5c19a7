"""Building stand-ins for the CUDA libraries that ONNX Runtime's CUDA provider is linked with."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

_RUNTIME = "libcudart.so.13"
_DRIVER = "libcuda.so.1"
_OTHERS = ("libcublas.so.13", "libcublasLt.so.13", "libcurand.so.10")
_OPENED_LATER = "libcudnn.so.9"
# Driver functions that are looked up by name, in addition to linked ones.
_DRIVER_SYMBOLS = ("cuInit", "cuDeviceGetName", "cuTensorMapEncodeTiled")


def build_substitutes(provider: Path, headers: Path, folder: Path) -> Path:
    """Compile the stand-ins with the system's compiler.

    Args:
        provider: `libonnxruntime_providers_cuda.so`.
        headers: Folder with `cuda_runtime_api.h` of CUDA 13.
        folder: Where the libraries go.

    Returns:
        The folder, for LD_LIBRARY_PATH.
    """
    folder.mkdir(parents=True, exist_ok=True)
    wanted = _undefined(provider)
    source = Path(__file__).with_name("substitute_cudart.cc")
    _compile(folder, _RUNTIME, source, "-I", str(headers), "-std=c++20")
    wanted[_DRIVER] |= set(_DRIVER_SYMBOLS)
    wanted[_OPENED_LATER] = {name.decode() for name in set(re.findall(rb"\bcudnn[A-Z]\w+", provider.read_bytes()))}
    for library in (*_OTHERS, _DRIVER, _OPENED_LATER):
        symbols = wanted[library]
        generated = folder / f"{library}.cc"
        generated.write_text("\n".join(['extern "C" {', *map(_stub, sorted(symbols)), "}", ""]), encoding="utf-8")
        _compile(folder, library, generated)
    return folder


def _undefined(provider: Path) -> dict[str, set[str]]:
    """The undefined symbols by library, from the versions that the linker recorded."""
    listed = subprocess.run(["nm", "-D", "--undefined-only", str(provider)], capture_output=True, text=True, check=True)
    found: dict[str, set[str]] = defaultdict(set)
    for name, library in re.findall(r" U (\w+)@(lib\w+\.so[.\d]*)", listed.stdout):
        found[library].add(name)
    return found


def _stub(name: str) -> str:
    """A function that succeeds; if it creates something, that is a block of memory which nobody reads."""
    if "Create" in name:
        return f"int {name}(void** made, ...) {{ static char block[4096]; if (made) *made = block; return 0; }}"
    if "GetStatus" in name or "GetErrorString" in name:
        return f'const char* {name}(int) {{ return "substitute"; }}'
    if name == "cublasLtMatmulAlgoGetHeuristic":
        return (
            f"int {name}(void*, void*, void*, void*, void*, void*, void*, int, void*, int* n) {{ *n = 1; return 0; }}"
        )
    if name == "cuDeviceGetName":
        return f"int {name}(char* name, int, int) {{ name[0] = 'S'; name[1] = 0; return 0; }}"
    return f"int {name}(...) {{ return 0; }}"


def _compile(folder: Path, library: str, source: Path, *options: str) -> None:
    compiler = shutil.which("c++") or "c++"
    script = folder / f"{library}.map"
    script.write_text(f"{library} {{ global: *; }};\n", encoding="utf-8")
    command = [compiler, "-shared", "-fPIC", "-O1", "-w", *options, str(source), "-o", str(folder / library)]
    subprocess.run([*command, f"-Wl,-soname,{library}", f"-Wl,--version-script={script}"], check=True)
