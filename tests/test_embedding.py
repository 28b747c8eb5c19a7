"""The C and C++ examples, built against an installed wheel and run; the library's exported symbols."""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ptgc import errors
from ptgc.runtime import Generator
from ptgc.runtime.libraries import onnxruntime_library
from ptgc.spec.onnxruntime_version import MIN_ONNXRUNTIME
from ptgc.spec.plan import DecodePlan
from ptgc.spec.strategies.autoregressive import autoregressive
from ptgc.spec.strategies.ctc import ctc
from ptgc.spec.strategies.masked_diffusion import masked_diffusion
from tests.bundles import ROOT, build_id, tiny_build
from tests.loops import LEVENSHTEIN, loop_build
from tests.models import prompt
from tests.wheels import environment_beside

HEADER = (ROOT / "runtime" / "include" / "ptgc.h").read_text(encoding="utf-8")
ARM_COMPILERS = list(Path("/usr/bin").glob("aarch64-linux-gnu-g++*"))
EMULATOR = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64") or ""
NUM_NEW_TOKENS = 24


@pytest.fixture(scope="module")
def cmake_folder(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    python = environment_beside(tmp_path_factory.mktemp("installed") / "venv", wheel)
    command = [python, "-m", "ptgc", "inspect", "--cmake-dir"]
    run = subprocess.run(command, capture_output=True, text=True, check=True, cwd=python.parent)
    found = Path(run.stdout.strip())
    assert python.parents[1] in found.parents
    return found


@pytest.fixture(scope="module")
def library(cmake_folder: Path) -> Path:
    return cmake_folder.parents[1] / "libptgc.so"


@pytest.fixture(scope="module")
def build(place: Path) -> Path:
    """A build of two rows."""
    return tiny_build(place, "llama", batch_size=2) / "builds" / build_id("float32", 2)


def example(cmake_folder: Path, name: str, folder: Path) -> Path:
    """Configure and build one of the examples."""
    configure = ["cmake", "-S", ROOT / "runtime" / "examples" / name, "-B", folder, f"-Dptgc_DIR={cmake_folder}"]
    for command in (configure, ["cmake", "--build", folder]):
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr
    return folder


def run(program: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(program), *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def ids(text: str) -> list[int]:
    return [int(word) for word in text.split()]


@pytest.fixture(scope="module")
def program(cmake_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The C example."""
    return example(cmake_folder, "c", tmp_path_factory.mktemp("c") / "build") / "generate"


def test_the_c_example_writes_what_python_writes(program: Path, build: Path, tmp_path: Path) -> None:
    library = {"PTGC_ONNXRUNTIME": onnxruntime_library()}
    done = run(program, build, NUM_NEW_TOKENS, *prompt(9), **library)
    assert done.returncode == 0, done.stderr
    written, end = done.stdout.splitlines()
    with Generator(build.parents[1], build=build.name) as generator:
        assert ids(written) == generator.generate(prompt(9), max_new_tokens=NUM_NEW_TOKENS).token_ids
    assert end.startswith(f"length: {NUM_NEW_TOKENS} tokens in ")

    refused = run(program, tmp_path, NUM_NEW_TOKENS, *prompt(9), **library)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[0] == f"There is no bundle at '{tmp_path}'."
    refused = run(program, build, 100_000, *prompt(9), **library)
    assert refused.returncode == 1
    assert "100000 new tokens do not fit" in refused.stderr
    refused = run(program, build, NUM_NEW_TOKENS, *prompt(9), PTGC_ONNXRUNTIME="/nowhere.so")
    assert refused.returncode == 1
    assert f'pip install "onnxruntime>={MIN_ONNXRUNTIME}"' in refused.stderr


@pytest.mark.parametrize(
    ("name", "plan"),
    [
        ("bert", masked_diffusion(3, 4)),
        ("ctc", ctc(blank_token_id=0, upsampling=2)),
        ("levenshtein", LEVENSHTEIN),
        ("marian", autoregressive()),
    ],
    ids=["canvas", "one-shot", "edit", "encoder-decoder"],
)
def test_the_c_example_runs_every_loop(program: Path, name: str, plan: DecodePlan, place: Path) -> None:
    build, prompt_ids = loop_build(place, name, plan, 1, "float32"), [20, 21, 22, 23, 24]
    done = run(program, build, 12, *prompt_ids, PTGC_ONNXRUNTIME=str(onnxruntime_library()))
    assert done.returncode == 0, done.stderr
    with Generator(build.parents[1], build=build.name) as generator:
        expected = generator.generate(prompt_ids, max_new_tokens=12).token_ids
    assert expected and ids(done.stdout.splitlines()[0]) == expected


def test_the_cpp_example_runs_on_the_library_that_its_process_opened(
    cmake_folder: Path, build: Path, tmp_path: Path
) -> None:
    program = example(cmake_folder, "cpp", tmp_path / "build") / "converse"
    done = run(program, build, onnxruntime_library(), NUM_NEW_TOKENS, *prompt(9))
    assert done.returncode == 0, done.stderr
    probable, drawn = (line.split(maxsplit=1) for line in done.stdout.splitlines())
    with Generator(build.parents[1], build=build.name) as generator:
        expected = [
            generator.generate(prompt(9), max_new_tokens=NUM_NEW_TOKENS, **options).token_ids
            for options in ({}, {"temperature": 1.0, "seed": 1})
        ]
    assert [probable[0], drawn[0]] == ["probable", "drawn"]
    assert [ids(probable[1]), ids(drawn[1])] == expected

    refused = run(program, build, onnxruntime_library(), 100_000, *prompt(9))
    assert refused.returncode == 1
    assert refused.stderr.startswith("capacity: ")


def test_the_library_shows_the_functions_of_its_header_and_nothing_else(library: Path) -> None:
    shown = subprocess.run(["nm", "-D", "--defined-only", library], capture_output=True, text=True, check=True).stdout
    declared = re.findall(r"^PTGC_API [^(]*?(ptgc_\w+)\(", HEADER, re.MULTILINE)
    assert len(declared) > 20
    operators = "RegisterCustomOps"  # what ONNX Runtime asks a library of operators for
    assert {line.split()[-1] for line in shown.splitlines()} == {*declared, operators}


def test_statuses_are_the_codes_of_the_errors(library: Path) -> None:
    loaded = ctypes.CDLL(str(library))
    loaded.ptgc_status_name.restype = ctypes.c_char_p
    declared = {name.lower(): int(value) for name, value in re.findall(r"PTGC_ERROR_(\w+) = (\d+)", HEADER)}
    codes = {error.code for error in errors.PtgcError.__subclasses__() if error.__module__ == errors.__name__}
    assert set(declared) == codes | {"internal"}
    for name, value in declared.items():
        assert loaded.ptgc_status_name(value).decode() == name


@pytest.mark.skipif(not EMULATOR, reason="no emulator of 64-bit ARM (the package qemu-user-static)")
@pytest.mark.skipif(not ARM_COMPILERS, reason="no compiler for 64-bit ARM (the package g++-aarch64-linux-gnu)")
def test_kernels_have_the_same_bits_on_64_bit_arm(tmp_path: Path) -> None:
    options = ["-DCMAKE_TOOLCHAIN_FILE=runtime/cmake/aarch64-linux-gnu.cmake", "-DPTGC_BUILD_TESTS=ON"]
    options += ["-DCMAKE_EXE_LINKER_FLAGS=-static", f"-DPython_EXECUTABLE={sys.executable}"]
    subprocess.run(["cmake", "-S", ROOT, "-B", tmp_path, *options], check=True, capture_output=True)
    subprocess.run(["cmake", "--build", tmp_path, "--target", "ptgc_kernel_tests"], check=True, capture_output=True)
    done = subprocess.run(
        [EMULATOR, tmp_path / "tests/cpp/ptgc_kernel_tests"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
    assert "BitsAreTheSameOnEveryMachine" in done.stdout


@pytest.mark.parametrize("machine", ["this one", "aarch64"])
def test_the_library_is_configured_with_a_compiler_and_cmake_alone(machine: str, tmp_path: Path) -> None:
    """Without Python, and without downloads: HOME and PATH are empty."""
    cmake, options = shutil.which("cmake"), []
    if machine == "aarch64":
        options = ["-DCMAKE_TOOLCHAIN_FILE=runtime/cmake/aarch64-linux-gnu.cmake"]
        if not ARM_COMPILERS:
            pytest.skip("no compiler for 64-bit ARM (the package g++-aarch64-linux-gnu)")
    command = [cmake, "-S", ROOT, "-B", tmp_path / "build", "-G", "Unix Makefiles", *options]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    )
    assert done.returncode == 0, done.stderr
    cached = (tmp_path / "build" / "CMakeCache.txt").read_text(encoding="utf-8")
    assert "Python" not in "".join(line for line in cached.splitlines() if "EXECUTABLE" in line)
