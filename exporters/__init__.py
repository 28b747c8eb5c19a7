"""Checkpoint to bundle; the only place that imports torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ptgc.exporters.bundle_writer import export
    from ptgc.exporters.from_checkpoint import export_checkpoint

__all__ = ["export", "export_checkpoint"]


def __getattr__(name: str) -> object:
    """Import torch only when an exported name is used."""
    if name == "export":
        from ptgc.exporters.bundle_writer import export

        return export
    if name == "export_checkpoint":
        from ptgc.exporters.from_checkpoint import export_checkpoint

        return export_checkpoint
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
