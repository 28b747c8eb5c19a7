"""The errors of ptgc, all of them.

PtgcError                 the user can fix it: printed without a traceback, exit status 1
├── UsageError            options that contradict each other, or values out of range
├── CheckpointError       a checkpoint that is missing, incomplete, unreadable or unsafe
├── ExportError           a model or combination that cannot be traced
├── BundleError           a bundle that is truncated, edited, newer than this version or unsafe
├── BuildError            a build that cannot be made here
├── BackendError          a backend that is absent, too old, or refuses the engine
├── CapacityError         a prompt or a request that does not fit the build
├── BusyError             every row of a generator is taken
├── StorageError          the disk is full, or a path cannot be written
└── EngineStaleError      an engine that was compiled for another library or device
InternalError             our own bug (not a PtgcError): full traceback

Every error carries a stable `code` (the same word in C, Python and on the command line), a `message` that says
what failed, what was given and what is allowed, and an `action` that says what to do.
"""

from __future__ import annotations


class PtgcError(Exception):
    """Something that the user can fix.

    Args:
        message: What failed, what was given, what is allowed.
        action: What to do about it; may be empty.
        code: Overrides the class's code if one class covers several situations.
    """

    code = "error"

    def __init__(self, message: str, action: str = "", code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.action = action
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return f"{self.message}\n{self.action}" if self.action else self.message


class UsageError(PtgcError):
    """Options contradict each other, or a value is out of range."""

    code = "usage"


class CheckpointError(PtgcError):
    """A checkpoint is missing, incomplete, unreadable or would execute code."""

    code = "checkpoint"


class ExportError(PtgcError):
    """A model or combination cannot be traced."""

    code = "export"


class BundleError(PtgcError):
    """A bundle is truncated, edited, newer than this version, or unsafe to open."""

    code = "bundle"


class BuildError(PtgcError):
    """A build cannot be made from this bundle here."""

    code = "build"


class BackendError(PtgcError):
    """A backend is absent, too old, or refuses the engine."""

    code = "backend"


class CapacityError(PtgcError):
    """A prompt or request does not fit what the build was made for."""

    code = "capacity"


class BusyError(PtgcError):
    """Every row of a generator is taken."""

    code = "busy"


class StorageError(PtgcError):
    """The disk is full, or a path cannot be written."""

    code = "storage"


class EngineStaleError(PtgcError):
    """An engine was compiled for another version of its library, or for another device."""

    code = "engine_stale"


class InternalError(Exception):
    """One of our invariants does not hold: a bug in ptgc, never the user's fault."""
