"""DrafterPlan: where draft tokens come from; each kind of drafter has its own parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import Enum
from typing import Annotated, Any, ClassVar

from ptgc.spec.fields import Range
from ptgc.spec.limits import MAX_TREE_NODES, MAX_VOCAB_SIZE
from ptgc.spec.ports import HIDDEN_STATES
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
    """Whether its roles are layers of the target, with the target's vocabulary and those layers' caches."""

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
    def alternatives(self) -> tuple[str, ...]:
        """Those of its roles of which one is chosen on loading; empty if it runs all of them."""
        return ()

    def describe(self, role: str) -> str:
        """What one of its alternatives is, for people."""
        return role

    @property
    def num_top_ids(self) -> int:
        """How many of the likeliest tokens after each of the target's rows it reads (`ports.top_ids`)."""
        return 0

    @property
    def fills_tree(self) -> bool:
        """Whether its drafts have the shape of the plan's tree, if that is no chain."""
        return True

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

        own = (find_strategy(name).drafter for name in BUILT_IN)
        drafters: list[type[DrafterPlan]] = [*own, LayersDrafter, MergedDrafter]
        return {drafter.kind: drafter for drafter in drafters}


@dataclass(frozen=True)
class OneRunDrafter(DrafterPlan):
    """Drafts a whole proposal in one run."""

    draws_dynamic_trees: ClassVar[bool] = True

    @property
    def depth(self) -> int:
        """Most draft tokens in a row."""
        raise NotImplementedError

    @property
    def rows_behind_text(self) -> int:
        """Rows of a run behind those of the text that it reads."""
        return 0

    @property
    def rows_read_again(self) -> int:
        """Rows of the text in every run that the next run reads again."""
        return 0

    @property
    def rows_at_once(self) -> int:
        """What it reads again, one more token, and the rows behind the text."""
        return self.rows_read_again + 1 + self.rows_behind_text

    @property
    def least_rows(self) -> int:
        """Rows without which it could not read on in a text, or could not draft behind one token."""
        return max(self.rows_read_again, self.rows_behind_text) + 1

    def num_logits(self, tree: TreeSpec) -> int:
        """Rows of logits of a run that drafts a whole tree."""
        return max(tree.depths)

    def misfits(self, tree: TreeSpec) -> list[str]:
        """Trees that are deeper than a run drafts."""
        deepest = max(tree.depths)
        if deepest <= self.depth:
            return []
        return [f"tree is {deepest} tokens deep; a run of the drafter drafts {self.depth}"]


@dataclass(frozen=True)
class MaskDrafter(OneRunDrafter):
    """Drafts at mask tokens after the text."""

    block_size: Annotated[int, Range(1, MAX_TREE_NODES)] = field(kw_only=True)
    """Rows of a run from the last token of the text on: that token, and mask tokens."""
    mask_token_id: Annotated[int, Range(0, MAX_VOCAB_SIZE - 1)] = field(kw_only=True)
    """The token that stands for a draft."""

    @property
    def depth(self) -> int:
        """Most draft tokens in a row: a drafter that reads states drafts at its mask tokens only."""
        return self.block_size - 1 if self.taps else self.block_size

    @property
    def rows_behind_text(self) -> int:
        """The masks."""
        return self.block_size - 1

    @property
    def rows_read_again(self) -> int:
        """With states, the row of the last token, which belongs to the block."""
        return 1 if self.taps else 0

    def num_logits(self, tree: TreeSpec) -> int:
        """With states, the row of the last token has logits, too, but drafts nothing."""
        return max(tree.depths) + self.rows_read_again


@dataclass(frozen=True)
class LayersDrafter(OneRunDrafter):
    """Layers draft a token each, one behind the other: layer k reads what layer k - 1 made of every token."""

    kind: ClassVar[str] = "layers"
    roles: ClassVar[tuple[str, ...]] = ("drafter",)
    taps: ClassVar[tuple[str, ...]] = (HIDDEN_STATES,)

    num_layers: Annotated[int, Range(2, MAX_TREE_NODES)] = field(kw_only=True)
    """How many there are."""

    @property
    def depth(self) -> int:
        """A token for each layer."""
        return self.num_layers

    @property
    def rows_read_again(self) -> int:
        """Layer k has read k - 1 drafts at the last tokens of the text."""
        return self.num_layers - 1


def alternative_roles(count: int) -> tuple[str, ...]:
    """The names of that many drafters of which one is chosen: drafter, drafter_2, drafter_3 ..."""
    return ("drafter", *(f"drafter_{number}" for number in range(2, count + 1)))


def drafter_feature(kind: str) -> str:
    """The feature that a reader must have to run a kind of drafter."""
    return f"drafter-{kind}"
