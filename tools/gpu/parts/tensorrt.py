"""TensorRT on the device, if it is installed; otherwise a report of what is missing."""

from __future__ import annotations

import ctypes
import importlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from archives import bundle_names, own_bundle
from cuda_driver import require_device

from parts.base import Figures, Settings, Skipped
from parts.exactness import Variant, check_variant
from ptgc.spec.bundle import open_bundle

_LIBRARIES = ("libnvinfer.so.11", "libnvinfer.so.10")
_HEADER = "NvInferRuntime.h"
_INCLUDE = ("/usr/include", "/usr/local/include", "/usr/local/tensorrt/include", "/usr/local/cuda/include")
_VARIANTS = tuple(Variant(precision, backend="tensorrt") for precision in ("float16", "float32"))
_BUNDLES = ("stories15m", "draft-model", "masked-diffusion-steps")


def measure(settings: Settings, figures: Figures, _subject: str) -> None:
    """Report what is installed; compile and run a few bundles if that is enough."""
    module, library, header = _module(), _library(), next(_headers(), None)
    figures.put(module=module, library=library, header=header is not None)
    missing = [
        name
        for name, there in (("the Python module tensorrt", module), (f"the library {_LIBRARIES[0]}", library))
        if there is None
    ]
    if missing:
        seen = "is there" if header else "is not there either"
        raise Skipped(f"Missing: {' and '.join(missing)}; {_HEADER}, which the runtime is compiled with, {seen}.")
    require_device()
    names = [name for name in _BUNDLES if name in bundle_names(settings.bundles)]
    if settings.bundles is None or not names:
        raise Skipped("There are no bundles: give the folder that tools/gpu/write_bundles.py wrote.")
    for name in names:
        bundle = open_bundle(own_bundle(name, settings.bundles, settings.work))
        for variant in _VARIANTS:
            with figures.attempt(f"{name}, {variant.name}"):
                found = check_variant(bundle, variant, settings)
                figures.add("checks", {"bundle": name, **found})
                if found["problems"]:
                    figures.fail(f"{name}, {variant.name}", "\n".join(found["problems"]))


def _module() -> str | None:
    """The version of the compiler, if it is installed; importing the module also opens its library."""
    try:
        found: Any = importlib.import_module("tensorrt")
    except ImportError:
        return None
    return str(getattr(found, "__version__", "unknown"))


def _library() -> str | None:
    for name in (*filter(None, [os.environ.get("PTGC_TENSORRT")]), *_LIBRARIES):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        return Path(name).name
    return None


def _headers() -> Iterator[Path]:
    roots = [os.environ.get(name) for name in ("TensorRT_ROOT", "TENSORRT_INCLUDE_DIR")]
    own = [Path(root) / part for root in roots if root for part in ("include", "")]
    for folder in (*own, *(Path(place) for place in _INCLUDE)):
        yield from folder.glob(f"**/{_HEADER}")
