"""DrafterPlan: where draft tokens come from; each kind of drafter has its own parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Annotated, Any, ClassVar

from ptgc.spec.fields import Range
from ptgc.spec.limits import MAX_TREE_NODES, MAX_VOCAB_SIZE
from ptgc.spec.tree import TreeSpec


@dataclass(frozen=True)
class DrafterPlan:
    """What every drafter has. An instance of this class itself is kind `none`, which drafts nothing."""

    kind: ClassVar[str] = "none"
    """Its name in the manifest."""
    roles: ClassVar[tuple[str, ...]] = ()
    """Roles that it runs in addition to the target."""
    taps: ClassVar[tuple[str, ...]] = ()
    """Outputs of the target, other than logits, that its roles read."""
    is_part_of_target: ClassVar[bool] = False
    """Whether its role is the first layers of the target, with the target's vocabulary and those layers' caches."""

    draws_dynamic_trees: ClassVar[bool] = False
    """Whether its tree may depend on how likely its drafts are (`DecodePlan.dynamic_tree`)."""

    num_draft_tokens: Annotated[int, Range(0, MAX_TREE_NODES - 1)] = 0
    """The most draft tokens in a round; fewer if the build's measured costs say so."""

    @property
    def reencodes(self) -> bool:
        """Whether its token ids are not the target's, so that drafts are decoded and encoded again."""
        return False

    @property
    def rows_at_once(self) -> int:
        """Rows of a run that makes all drafts of a round; 0 if each draft takes a run."""
        return 0

    @property
    def overlap(self) -> bool:
        """Whether it may draft the next block while the target verifies this one."""
        return False

    @property
    def num_top_ids(self) -> int:
        """How many of the likeliest tokens after each of the target's rows it reads (`ports.top_ids`)."""
        return 0

    def misfits(self, tree: TreeSpec) -> list[str]:  # noqa: ARG002
        """What it cannot draft of a plan's tree."""
        return []

    @property
    def parts(self) -> tuple[DrafterPlan, ...]:
        """The drafters that it is merged from, of which only the last may run roles; or only this one."""
        return (self,)

    def to_json(self) -> dict[str, Any]:
        """This drafter as the manifest writes it."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {"kind": self.kind} | {k: v.value if isinstance(v, Enum) else v for k, v in values.items()}

    @staticmethod
    def json_kinds() -> Mapping[str, type[DrafterPlan]]:
        """The class that reads each kind; runtime/src/drafters/registry.cc has the same kinds."""
        from ptgc.spec.strategies import BUILT_IN, find_strategy  # these import this module
        from ptgc.spec.strategies.merged import MergedDrafter

        drafters: list[type[DrafterPlan]] = [*(find_strategy(name).drafter for name in BUILT_IN), MergedDrafter]
        return {drafter.kind: drafter for drafter in drafters}


@dataclass(frozen=True)
class MaskDrafter(DrafterPlan):
    """Drafts a whole proposal in one run, at mask tokens after the text."""

    draws_dynamic_trees: ClassVar[bool] = True

    block_size: Annotated[int, Range(1, MAX_TREE_NODES)] = field(kw_only=True)
    """Rows of a run from the last token of the text on: that token, and mask tokens."""
    mask_token_id: Annotated[int, Range(0, MAX_VOCAB_SIZE - 1)] = field(kw_only=True)
    """The token that stands for a draft."""

    @property
    def depth(self) -> int:
        """Most draft tokens in a row: a drafter that reads states drafts at its mask tokens only."""
        return self.block_size - 1 if self.taps else self.block_size

    @property
    def rows_at_once(self) -> int:
        """A block; with states, also a token of the text."""
        return self.block_size + 1 if self.taps else self.block_size

    def misfits(self, tree: TreeSpec) -> list[str]:
        """Trees that are deeper than a block."""
        deepest = max(tree.depths)
        if deepest <= self.depth:
            return []
        return [f"tree is {deepest} tokens deep; the drafter's blocks have {self.depth} drafts"]


def drafter_feature(kind: str) -> str:
    """The feature that a reader must have to run a kind of drafter."""
    return f"drafter-{kind}"
