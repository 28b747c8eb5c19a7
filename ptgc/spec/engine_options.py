"""The settings that an engine may be loaded with: only those that ptgc's own compiler writes."""

from __future__ import annotations

from collections.abc import Mapping

ALLOWED: Mapping[str, frozenset[str]] = {
    "optimization.disable_specified_optimizers": frozenset({"GatherToSliceFusion"}),
}
"""ONNX Runtime's configuration entries and their values. Other entries could name files to write."""


def refused_options(options: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The problems of the settings of a build's engines."""
    return [
        f"engine_options.{role} sets {name[:64]} to '{value[:64]}', which ptgc never does"
        for role, entries in options.items()
        for name, value in entries.items()
        if value not in ALLOWED.get(name, ())
    ]
