"""Rounds of a small model, whose engine is so fast that the host's share is visible."""

from __future__ import annotations

from collections.abc import Sequence

from archives import bundle_names, own_bundle
from cuda_driver import require_device
from round_times import measure_build

from parts.base import Figures, Settings, Skipped
from parts.exactness import Variant, build_variant
from ptgc.spec.bundle import open_bundle

_PRECISIONS = {"cuda": ("float16", "int4", "float32"), "cpu": ("float32", "int4")}
_MODEL = "stories15m"
_INSTEAD = "draft-model"
"""Replaces the real model if it is missing: tiny, but with rounds of the same kind."""


def subjects(settings: Settings) -> Sequence[str]:
    """Every precision, each in its own process."""
    found = _PRECISIONS[settings.device]
    return found[:1] if settings.small else found


def measure(settings: Settings, figures: Figures, subject: str) -> None:
    """Measure the build of one precision."""
    names = bundle_names(settings.bundles)
    model = _MODEL if _MODEL in names else _INSTEAD
    if settings.bundles is None or model not in names:
        raise Skipped("There are no bundles: give the folder that tools/gpu/write_bundles.py wrote.")
    if settings.device == "cuda":
        require_device()
    bundle = open_bundle(own_bundle(model, settings.bundles, settings.work))
    made = build_variant(bundle, Variant(subject), settings.device)
    figures.put(model=model, **measure_build(bundle.path, made.manifest.id, settings, figures))
