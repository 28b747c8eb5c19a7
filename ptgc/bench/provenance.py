"""Where a figure comes from: machine, versions and command, without anything that identifies the owner."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from typing import Any

from ptgc.spec.bundle import Bundle

PACKAGES = (
    *("ptgc", "onnxruntime", "numpy", "tokenizers", "torch", "transformers"),
    *("onnxruntime-genai", "openvino", "openvino-genai", "nncf", "llama-cpp-python", "ctranslate2"),
)
_FEATURES = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "asimddp", "i8mm", "sve")


def provenance(program: Sequence[str], arguments: Sequence[str], bundle: Bundle, num_threads: int) -> dict[str, Any]:
    """What a report says about how it was made.

    Args:
        program: The program: `ptgc bench`, or `python` and a script.
        arguments: Its command line.
        bundle: The bundle that was measured.
        num_threads: Threads of every engine.
    """
    return {
        "command": command(program, arguments),
        "date": datetime.now(UTC).date().isoformat(),
        "threads": num_threads,
        "python": platform.python_version(),
        "packages": versions(PACKAGES),
        "bundle_sha256": bundle.sha256,
    }


def machine() -> dict[str, Any]:
    """The machine that figures were measured on, and how busy it was."""
    model, features = _processor()
    return {
        "cpu": model,
        "cpu_features": features,
        "cores": num_cores(),
        "kernel": f"{platform.system()} {platform.release()}",
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def command(program: Sequence[str], arguments: Sequence[str]) -> str:
    """The command line, every path reduced to its last name."""
    return shlex.join([*program, *(without_folders(argument) for argument in arguments)])


def without_folders(argument: str) -> str:
    """An argument whose value, if it is a path, is only that path's last name."""
    option, equals, value = argument.partition("=") if argument.startswith("-") else ("", "", argument)
    if "/" not in value and os.sep not in value:
        return argument
    return f"{option}{equals}{PurePath(value).name or 'root'}"


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions of those packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def num_cores() -> int:
    """Number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _processor() -> tuple[str, list[str]]:
    """Name of the processor, and its features that matter to engines."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine(), []
    facts: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    return facts.get("model name", platform.machine()), [name for name in _FEATURES if name in flags]
