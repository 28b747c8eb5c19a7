"""Which ONNX Runtime is installed: the CPU package, or the one that also has the CUDA provider."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from ptgc.errors import BackendError
from ptgc.spec.onnxruntime_version import MIN_ONNXRUNTIME, is_older

PACKAGES = ("onnxruntime-gpu", "onnxruntime")
"""The larger package first: both install into the same folder, and the larger one's metadata remains if its files
replaced those of the other."""


def onnxruntime_version(package: str = "onnxruntime") -> str:
    """Version of the installed package, which can run every prepared graph.

    Args:
        package: The package to name in the error if none is installed.

    Raises:
        BackendError: None is installed, or it is too old; the error says how to install it.
    """
    for name in PACKAGES:
        try:
            found = version(name)
        except PackageNotFoundError:
            continue
        if is_older(found, MIN_ONNXRUNTIME):
            raise BackendError(
                f"ONNX Runtime {found} is too old for the graphs of ptgc, which need {MIN_ONNXRUNTIME} or newer.",
                f'Install a newer one: pip install "{name}>={MIN_ONNXRUNTIME}"',
            )
        return found
    raise BackendError(
        "Backend 'onnxruntime' needs the package onnxruntime, which is not installed.",
        f'Install it: pip install "{package}>={MIN_ONNXRUNTIME}"',
    )
