"""Loaded: the parts of a generator that its sessions and texts use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ptgc.runtime import _core
from ptgc.runtime.text import TextCodec
from ptgc.spec.bundle import Build, Bundle
from ptgc.spec.plan import DecodePlan


@dataclass(frozen=True)
class Loaded:
    """A build in memory, and where it comes from."""

    bundle: Bundle
    """The bundle."""
    build: Build
    """The build."""
    core: _core.Generator
    """The C++ generator."""
    codec: TextCodec | None
    """The tokenizer; None if the bundle has none."""
    plan: DecodePlan
    """The bundle's plan, changed by the options of loading."""

    @property
    def has_source(self) -> bool:
        """Whether a prompt is a source, which an encoder reads or which is edited, and not the start of the text."""
        return "encoder" in self.build.manifest.roles or self.bundle.manifest.plan.edit is not None

    def masks_in(self, ids: Sequence[int]) -> int:
        """How many tokens of a prompt stand for positions that are still to be filled."""
        return 0 if self.plan.canvas is None else ids.count(self.plan.canvas.mask_token_id)
