"""The machine: device, driver, processor, and the version of every library involved."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from cuda_driver import device_facts

from parts.base import Figures, Settings
from ptgc.bench.provenance import machine, versions

_PACKAGES = (
    "ptgc",
    "numpy",
    "onnx",
    "onnx-ir",
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxscript",
    "optimum",
    "tensorrt",
    "tensorrt-rtx",
    "tokenizers",
    "torch",
    "transformers",
    "triton",
)
_KERNEL_MODULE = Path("/proc/driver/nvidia/version")
_QUERY = ("driver_version", "clocks.sm", "clocks.mem", "clocks.max.sm", "clocks.max.mem", "power.limit")


def measure(settings: Settings, figures: Figures, _subject: str) -> None:
    """Describe the machine from several sources, which complement each other."""
    figures.put(host=machine(), python=platform.python_version(), packages=versions(_PACKAGES))
    with figures.attempt("onnxruntime"):
        figures.put(onnxruntime=_onnxruntime())
    if settings.device == "cuda":
        figures.put(device=device_facts())
        figures.put(nvidia_smi=_nvidia_smi())
        with figures.attempt("torch"):
            figures.put(torch=_torch())


def _onnxruntime() -> dict[str, Any]:
    """The imported version, which metadata may not show: two packages share one folder."""
    import onnxruntime

    return {"version": onnxruntime.__version__, "providers": onnxruntime.get_available_providers()}


def _nvidia_smi() -> dict[str, str]:
    """The answer of `nvidia-smi`, or if it is missing, the kernel's description of the driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {"driver": _KERNEL_MODULE.read_text(encoding="utf-8").strip()} if _KERNEL_MODULE.is_file() else {}
    command = [program, f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader", "--id=0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    if done.returncode != 0:
        return {"error": (done.stdout + done.stderr).strip()}
    return dict(zip(_QUERY, (value.strip() for value in done.stdout.strip().split(",")), strict=False))


def _torch() -> dict[str, Any]:
    import torch

    return {"cuda": torch.version.cuda, "available": torch.cuda.is_available(), "cudnn": torch.backends.cudnn.version()}
