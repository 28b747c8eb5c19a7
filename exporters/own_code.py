"""Models whose code came with their checkpoint: what goes wrong in it is no bug of ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from ptgc.errors import ExportError, PtgcError

_KNOWN = ("transformers.", "ptgc.", "torch.")


def is_own_code(module: nn.Module) -> bool:
    """Whether a module's class is of none of the packages that this version is tested with."""
    return not type(module).__module__.startswith(_KNOWN)


@contextmanager
def own_code_errors(module: nn.Module) -> Iterator[None]:
    """Turn what a module of its own code raises into an error that says so.

    Raises:
        ExportError: The code failed.
    """
    try:
        yield
    except Exception as error:  # such code raises errors of every kind
        if not is_own_code(module) or isinstance(error, PtgcError | MemoryError):
            raise
        raise ExportError(
            f"{type(module).__name__}, whose code came with the checkpoint, failed when it was run: "
            f"{type(error).__name__}: {error}",
            "docs/adding-a-model.md says what a model's forward takes and gives.",
        ) from error
