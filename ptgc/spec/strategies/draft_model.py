"""draft-model: a smaller model drafts a chain, token by token."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from ptgc.spec.acceptance import AcceptanceRule
from ptgc.spec.drafter import DrafterPlan
from ptgc.spec.loop import Loop
from ptgc.spec.options import CheckpointName
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.base import CheckpointFacts, DraftTokens, DynamicTreeOptions, Strategy
from ptgc.spec.strategies.merged import Lookup, with_lookup
from ptgc.spec.tree import TreeSpec


class DrafterVocabulary(str, Enum):
    """How a drafter's token ids relate to the target's."""

    SHARED = "shared"
    """They are the same ids."""
    REENCODED = "re-encoded"
    """Texts are decoded and encoded again between both tokenizers."""


@dataclass(frozen=True)
class ModelDrafter(DrafterPlan):
    """A smaller causal language model."""

    kind: ClassVar[str] = "model"
    roles: ClassVar[tuple[str, ...]] = ("drafter",)
    draws_dynamic_trees: ClassVar[bool] = True

    vocabulary: DrafterVocabulary = DrafterVocabulary.SHARED
    """How its token ids relate to the target's."""
    overlap: bool = False
    """Whether it may draft the next block while the target verifies this one."""

    @property
    def reencodes(self) -> bool:
        """Whether texts are decoded and encoded again."""
        return self.vocabulary is DrafterVocabulary.REENCODED

    def misfits(self, tree: TreeSpec) -> list[str]:
        """Drafts that cannot be made ahead."""
        found = []
        if self.overlap and not tree.is_chain:
            found.append("drafter.overlap takes chains; tree is none")
        if self.overlap and self.reencodes:
            found.append("drafter.overlap needs drafts of the target's vocabulary")
        return found


@dataclass(frozen=True)
class DraftModelOptions(DynamicTreeOptions):
    """Which model drafts, and how its drafts are taken."""

    drafter: CheckpointName
    """The drafter: directory, GGUF file or hub id."""
    num_draft_tokens: DraftTokens = 5
    """Most draft tokens per round, of a chain."""
    drafter_vocabulary: DrafterVocabulary = DrafterVocabulary.SHARED
    """Whether both models have the same token ids, or drafts are decoded to text and encoded again."""
    lookup: Lookup = Lookup.NONE
    """What drafts in place of the drafter where it finds the end of the text earlier in it."""
    overlap: bool = False
    """Let the drafter make the next drafts while the target verifies, on machines with processors left for both or
    where ptgc tune finds that it pays. The text is the same."""

    def problems(self) -> list[str]:
        """Options that rule each other out."""
        found = super().problems()
        if self.overlap and self.tree is not None and not self.tree.is_chain:
            found.append("--overlap takes a chain, whose last draft others can follow, not --tree.")
        if self.overlap and self.drafter_vocabulary is DrafterVocabulary.REENCODED:
            found.append(
                "--overlap needs drafts of the target's vocabulary, not --drafter-vocabulary re-encoded: the drafter "
                "would need its own ids of drafts that are not text yet."
            )
        if self.tree is not None and self.drafter_vocabulary is DrafterVocabulary.REENCODED:
            found.append("--tree needs drafts of the target's vocabulary, not --drafter-vocabulary re-encoded.")
        return found


def draft_model(
    num_draft_tokens: int = DraftModelOptions.num_draft_tokens,
    acceptance: AcceptanceRule = AcceptanceRule.MATCH,
    vocabulary: DrafterVocabulary = DrafterVocabulary.SHARED,
    tree: TreeSpec | None = None,
    *,
    overlap: bool = False,
) -> DecodePlan:
    """A smaller model drafts a chain, token by token; or a tree, depth by depth.

    Args:
        num_draft_tokens: Most draft tokens of a round.
        acceptance: How drafts are judged.
        vocabulary: How the drafter's token ids relate to the target's.
        tree: A tree in place of the chain.
        overlap: Whether it may draft the next block while the target verifies this one.
    """
    tree = tree or TreeSpec.chain(num_draft_tokens)
    drafter = ModelDrafter(tree.num_nodes - 1, vocabulary, overlap)
    return DecodePlan(STRATEGY.name, drafter=drafter, tree=tree).accepting(acceptance)


def _plan(options: DraftModelOptions, _facts: CheckpointFacts) -> DecodePlan:
    plan = draft_model(
        options.num_draft_tokens,
        vocabulary=options.drafter_vocabulary,
        tree=options.tree,
        overlap=options.overlap,
    )
    return with_lookup(options.judging(plan), options.lookup)


STRATEGY = Strategy(
    name="draft-model",
    loop=Loop.SPECULATIVE,
    guarantee=Guarantee.LOSSLESS,
    summary="A smaller model drafts a chain, token by token, or a tree.",
    source="Leviathan et al., arXiv 2211.17192, section 2; Chen et al., arXiv 2302.01318",
    options=DraftModelOptions,
    plan=_plan,
    drafter=ModelDrafter,
    exporter="ptgc.exporters.strategies.draft_model:EXPORTER",
)
