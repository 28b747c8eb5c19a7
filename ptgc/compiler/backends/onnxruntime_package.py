"""Which ONNX Runtime is installed: the package for the CPU, or the one that has the CUDA provider too."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from ptgc.errors import BackendError

PACKAGES = ("onnxruntime-gpu", "onnxruntime")
"""The larger first: both write one folder, and its metadata is there where the other's files were replaced."""


def onnxruntime_version(extra: str) -> str:
    """Version of the installed package.

    Args:
        extra: Of ptgc, that installs it: `cpu` or `gpu`.

    Raises:
        BackendError: None is installed; says how to install it.
    """
    for package in PACKAGES:
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    raise BackendError(
        "Backend 'onnxruntime' needs the package onnxruntime, which is not installed.",
        f'Install it: pip install "ptgc[{extra}]"',
    )
