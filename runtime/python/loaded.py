"""Loaded: what a generator is made of, as its sessions and texts see it."""

from __future__ import annotations

from dataclasses import dataclass

from ptgc.runtime import _core
from ptgc.runtime.text import TextCodec
from ptgc.spec.bundle import Build, Bundle


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
    """The tokenizer, where the bundle has one."""

    @property
    def has_source(self) -> bool:
        """Whether a prompt is a source that the text is written about, read by an encoder or edited: no part of it."""
        return "encoder" in self.build.manifest.roles or self.bundle.manifest.plan.edit is not None
