"""Which ONNX Runtime is installed: the package for the CPU, or the one that has the CUDA provider too."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from ptgc.errors import BackendError
from ptgc.spec.onnxruntime_version import MIN_ONNXRUNTIME, is_older

PACKAGES = ("onnxruntime-gpu", "onnxruntime")
"""The larger first: both write one folder, and its metadata is there where the other's files were replaced."""


def onnxruntime_version(package: str = "onnxruntime") -> str:
    """Version of the installed package, which runs every graph that is prepared.

    Args:
        package: The one to install where there is none.

    Raises:
        BackendError: None is installed, or one that is too old; says how to install it.
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
