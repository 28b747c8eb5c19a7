"""Texts that PyTorch writes in the loops that do not generate token by token."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from ptgc.exporters.references.original_roles import original_roles
from ptgc.graphs.reference_loops import WrittenText, write
from ptgc.spec.plan import DecodePlan


def original_text(
    modules: Mapping[str, nn.Module], plan: DecodePlan, given: Sequence[int], longest: int = 0
) -> WrittenText:
    """One text of the original's modules."""
    return write(original_roles(modules, plan), plan, given, longest)
