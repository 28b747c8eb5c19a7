"""Install PyTorch for a CPU into the environment of the Python that runs this: `python tools/install_torch.py`.

PyTorch's CPU build is used if pip finds one: `PIP_EXTRA_INDEX_URL` may name PyTorch's own index of CPU builds. The
build on the Python package index is for CUDA and requires several gigabytes of libraries, none of which is called on a
CPU. If only that build is available, it is installed alone, with empty libraries in place of those it is linked with. A
machine with an NVIDIA GPU needs the real ones, from a plain `pip install torch`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from importlib.metadata import distribution
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "install", "-c", str(CONSTRAINTS))
CUDA_PACKAGE = re.compile(r"Requires-Dist: (nvidia|cuda|triton)[\w-]*")
CUDA_SYMBOL = re.compile(r"(cu|nccl|nv)[A-Za-z]\w+")
CUDA_LIBRARY = re.compile(r"lib(cu|nccl|nv)\w*\.so\.\d+")
FOUND_AT_RUN_TIME = ("libcuda.so.1",)
"""The driver, which PyTorch looks for to find out whether there is a GPU."""


def main() -> int:
    """Install the version pinned in constraints.txt; return the exit status."""
    version = _pinned("torch")
    if _imports(version):
        return 0
    if _run(*PIP, f"torch=={version}+cpu", quiet=True):
        return 0
    print(
        f"pip finds no CPU build of torch {version} for this Python; taking the one for CUDA without CUDA's libraries"
    )
    if not _run(*PIP, "--no-deps", f"torch=={version}"):
        return 1
    if not _imports(version):
        _drop_requirements()
        _run(*PIP, "nvidia-cuda-runtime")  # the real one, which reports that there is no GPU
        _write_empty_libraries()
    if not _run(*PIP, f"torch=={version}") or not _imports(version):
        print("error: it cannot be imported. Name an index of CPU builds with PIP_EXTRA_INDEX_URL.", file=sys.stderr)
        return 1
    return 0


def _pinned(package: str) -> str:
    (version,) = re.findall(rf"^{package}==(.+)$", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)
    return str(version)


def _run(*command: str, quiet: bool = False) -> bool:
    return subprocess.run(command, stderr=subprocess.DEVNULL if quiet else None, check=False).returncode == 0


def _imports(version: str) -> bool:
    script = f"import sys, torch; sys.exit(torch.__version__.partition('+')[0] != {version!r})"
    return _run(sys.executable, "-c", script, quiet=True)


def _drop_requirements() -> None:
    """Remove CUDA's packages from the requirements of the installed torch; pip would otherwise add them later."""
    (path,) = (Path(str(file.locate())) for file in distribution("torch").files or () if file.name == "METADATA")
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not CUDA_PACKAGE.match(line)), encoding="utf-8")


def _write_empty_libraries() -> None:
    """Put libraries beside PyTorch's with the functions that it links to; each function aborts the process."""
    folder = Path(str(distribution("torch").locate_file("torch"))) / "lib"
    own = sorted(folder.glob("*.so"))
    present = {file.name for file in folder.parent.parent.glob("nvidia/**/lib/*.so.*")}
    headers = subprocess.run(["readelf", "-d", *own], capture_output=True, text=True, check=True).stdout
    names = set(re.findall(r"NEEDED.*\[(.+)\]", headers)) - present - set(FOUND_AT_RUN_TIME)
    table = subprocess.run(["nm", "-D", "-u", *own], capture_output=True, text=True, check=True).stdout
    undefined = {line.split()[-1].partition("@")[0] for line in table.splitlines() if " U " in line}
    symbols = sorted(name for name in undefined if CUDA_SYMBOL.fullmatch(name) and not name.startswith("cuda"))
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "empty.c"
        body = "".join(f"void {name}(void) {{ abort(); }}\n" for name in symbols)
        source.write_text(f"#include <stdlib.h>\n{body}", encoding="utf-8")
        for name in sorted(names):
            if CUDA_LIBRARY.fullmatch(name):
                link = ["cc", "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", str(folder / name), str(source)]
                subprocess.run(link, check=True)


if __name__ == "__main__":
    sys.exit(main())
