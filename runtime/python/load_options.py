"""LoadOptions: how a build is used once it is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptgc.runtime.option_values import read_options
from ptgc.spec.tree import TreeSpec

DRAFT_LENGTHS = ("measured", "fixed")


@dataclass(frozen=True)
class LoadOptions:
    """How a build is used once it is loaded."""

    num_draft_tokens: int | None = None
    """Most draft tokens per round; None takes what `ptgc tune` found on this device, or the plan's number."""
    tree: TreeSpec | None = None
    """A part of the plan's tree that drafts fill, or the parents of its nodes, the most valuable nodes first; None
    takes what `ptgc tune` found on this device if `num_draft_tokens` is None too, or the plan's tree."""
    gains: Sequence[float] | None = None
    """The probability that each draft of that tree, or of a chain, is accepted with all before it: what is expected of
    a text at first. None takes what `ptgc tune` found for that tree on this device."""
    draft_length: str = "measured"
    """`measured` drafts as many tokens as pay by the measured costs, `fixed` always as many as possible."""
    acceptance: str | None = None
    """How drafts are judged, a value of `AcceptanceRule`; None takes the plan's. The parameters of lossy rules are
    the plan's."""
    ngram_match: str | None = None
    """ngram: whether the `latest` or the `first` of equal matches is continued; None takes the plan's."""
    overlap: bool | None = None
    """Whether drafts are made while the target verifies, for bundles exported with `--overlap`. None does so if `ptgc
    tune` found on this device that it pays with `num_threads`; if it did not try, where as many processors are left for
    the drafter. It never does where none is left."""
    datastore: str | Path | None = None
    """datastore: the file to draft from, made by `ptgc datastore` with the tokenizer of the bundle. Without one, all
    rounds are plain."""
    drafter: str | None = None
    """The role that drafts, in a bundle that has several for it (layer-skip); None takes what `ptgc tune` found on this
    device, or the first."""
    wait: float | None = None
    """Seconds that a call waits for a row; 0 fails at once. None waits as long as texts are being written, because
    those end, but not for rows that open sessions keep."""
    max_waiting: int | None = None
    """Most texts of all threads that may wait for a row; one more is refused as busy. None for any number."""

    @staticmethod
    def from_names(options: Mapping[str, Any]) -> LoadOptions:
        """Options by name.

        Raises:
            UsageError: An unknown name, or values of the wrong type or out of range; all of them are named.
        """
        return read_options(LoadOptions, options, LoadOptions.problems)

    def problems(self) -> list[str]:
        """Values that are out of range, one sentence each."""
        found = []
        for name in ("num_draft_tokens", "wait", "max_waiting"):
            value = getattr(self, name)
            if value is not None and value < 0:
                found.append(f"{name} is {value}; it must be 0 or more.")
        if self.tree is not None and self.gains and len(self.gains) != self.tree.num_nodes - 1:
            found.append(f"gains has {len(self.gains)} entries; tree has {self.tree.num_nodes - 1} drafts.")
        return found
