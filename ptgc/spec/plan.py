"""DecodePlan: the frozen, serialisable description of a loop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from ptgc.spec.acceptance import AcceptanceRule
from ptgc.spec.canvas import CanvasPlan, Unmasking
from ptgc.spec.edit import EditPlan
from ptgc.spec.fields import Range
from ptgc.spec.limits import MAX_NGRAM_SIZE, MAX_TREE_NODES
from ptgc.spec.one_shot import OneShotPath, OneShotPlan
from ptgc.spec.strategy import DrafterKind, DrafterVocabulary, Loop, NgramMatch, Strategy
from ptgc.spec.tree import TreeSpec

_NgramSize = Annotated[int, Range(0, MAX_NGRAM_SIZE)]
_POLICIES = {
    Loop.SPECULATIVE: ("drafter", "acceptance", "tree"),
    Loop.CANVAS: ("canvas",),
    Loop.ONE_SHOT: ("one_shot",),
    Loop.EDIT: ("edit",),
}
"""What a plan must say of each loop."""


@dataclass(frozen=True)
class DrafterPlan:
    """Where draft tokens come from, and how many."""

    kind: DrafterKind = DrafterKind.NONE
    """Which drafter."""
    num_draft_tokens: Annotated[int, Range(0, MAX_TREE_NODES - 1)] = 0
    """The most draft tokens in a round; fewer where the build's measured costs say so."""
    max_ngram_size: _NgramSize = 0
    """ngram: the longest suffix of the text that is looked up, tried first."""
    min_ngram_size: _NgramSize = 0
    """ngram: the shortest suffix that counts as a match."""
    ngram_match: NgramMatch = NgramMatch.LATEST
    """ngram: which of equally long matches is continued."""
    vocabulary: DrafterVocabulary = DrafterVocabulary.SHARED
    """model: how the drafter's token ids relate to the target's."""

    def to_json(self) -> dict[str, Any]:
        """This drafter as the manifest writes it."""
        data: dict[str, Any] = {"kind": self.kind.value, "num_draft_tokens": self.num_draft_tokens}
        if self.kind is DrafterKind.NGRAM:
            data |= {"max_ngram_size": self.max_ngram_size, "min_ngram_size": self.min_ngram_size}
            data["ngram_match"] = self.ngram_match.value
        if self.kind is DrafterKind.MODEL:
            data["vocabulary"] = self.vocabulary.value
        return data

    def problems(self) -> list[str]:
        """Sizes out of order."""
        if self.kind is not DrafterKind.NGRAM or 1 <= self.min_ngram_size <= self.max_ngram_size:
            return []
        sizes = f"{self.min_ngram_size} to {self.max_ngram_size}"
        return [f"min_ngram_size to max_ngram_size is {sizes}; it must be an ascending range from 1 on"]


@dataclass(frozen=True)
class DecodePlan:
    """One strategy as a composition: a loop and the policies plugged into it."""

    strategy: Strategy
    """The name under which the composition is known."""
    drafter: DrafterPlan = field(default_factory=DrafterPlan)
    """speculative: proposes tokens."""
    acceptance: AcceptanceRule = AcceptanceRule.MATCH
    """speculative: decides which of them are kept."""
    tree: TreeSpec = field(default_factory=lambda: TreeSpec.chain(0))
    """speculative: the shape of a full proposal; its root is the last committed token."""
    canvas: CanvasPlan | None = None
    """canvas: how masked positions are filled."""
    one_shot: OneShotPlan | None = None
    """one-shot: how the text is read off the one run."""
    edit: EditPlan | None = None
    """edit: which operations there are and when they end."""

    @property
    def loop(self) -> Loop:
        """The loop that runs this plan."""
        return self.strategy.loop

    def to_json(self) -> dict[str, Any]:
        """This plan as the manifest writes it: the loop and that loop's policies."""
        data: dict[str, Any] = {"loop": self.loop.value}
        if self.loop is Loop.SPECULATIVE:
            data["drafter"] = self.drafter.to_json()
            data["acceptance"] = self.acceptance.value
            data["tree"] = self.tree.to_json()
        for name, policies in (("canvas", self.canvas), ("one_shot", self.one_shot), ("edit", self.edit)):
            if policies is not None:
                data[name] = policies.to_json()
        return data

    @staticmethod
    def json_fields(data: Any) -> Any:
        """The fields from the manifest's form; policies of other loops are ignored."""
        if not isinstance(data, dict):
            return data
        known = {one.value: one for one in Strategy}
        strategy = known.get(name) if isinstance(name := data.get("strategy"), str) else None
        policies = _POLICIES[strategy.loop] if strategy else ()
        return {name: data.get(name) for name in ("strategy", *policies)}

    def problems(self) -> list[str]:
        """Policies that do not fit each other."""
        found = [f"{name} is missing" for name in _POLICIES[self.loop] if getattr(self, name) is None]
        most = self.tree.num_nodes - 1
        if self.drafter.num_draft_tokens > most:
            found.append(f"drafter.num_draft_tokens is {self.drafter.num_draft_tokens}; tree has room for {most}")
        if self.acceptance is AcceptanceRule.SPECULATIVE and not self.tree.is_chain:
            found.append("acceptance is speculative, which takes chains; tree is none")
        return found


def autoregressive() -> DecodePlan:
    """One token a round."""
    return DecodePlan(Strategy.AUTOREGRESSIVE)


def ngram(
    num_draft_tokens: int = 15,
    max_ngram_size: int = 8,
    min_ngram_size: int = 1,
    ngram_match: NgramMatch = NgramMatch.LATEST,
) -> DecodePlan:
    """Prompt lookup: the continuation of the longest earlier occurrence of the text's last tokens.

    Source: Saxena, "Prompt Lookup Decoding" (2023); LLMA, arXiv 2304.04487, section 3.
    """
    drafter = DrafterPlan(DrafterKind.NGRAM, num_draft_tokens, max_ngram_size, min_ngram_size, ngram_match)
    return DecodePlan(Strategy.NGRAM, drafter, tree=TreeSpec.chain(num_draft_tokens))


def draft_model(
    num_draft_tokens: int = 5,
    acceptance: AcceptanceRule = AcceptanceRule.MATCH,
    vocabulary: DrafterVocabulary = DrafterVocabulary.SHARED,
) -> DecodePlan:
    """A smaller model drafts a chain, token by token.

    Source: Leviathan et al., arXiv 2211.17192, section 2; Chen et al., arXiv 2302.01318.
    """
    drafter = DrafterPlan(DrafterKind.MODEL, num_draft_tokens, vocabulary=vocabulary)
    return DecodePlan(Strategy.DRAFT_MODEL, drafter, acceptance, TreeSpec.chain(num_draft_tokens))


def masked_diffusion(
    mask_token_id: int, num_steps: int = 16, threshold: float | None = None, block_length: int = 0
) -> DecodePlan:
    """Masked positions of a canvas are filled a few a round, the most confident first.

    Source: MaskGIT, arXiv 2202.04200, section 3.2; LLaDA, arXiv 2502.09992, appendix B; Fast-dLLM, arXiv 2505.22618.
    """
    unmasking = Unmasking.CONFIDENCE if threshold is None else Unmasking.THRESHOLD
    canvas = CanvasPlan(mask_token_id, num_steps, unmasking, threshold or 0.0, block_length)
    return DecodePlan(Strategy.MASKED_DIFFUSION, canvas=canvas)


def ctc(blank_token_id: int, upsampling: int) -> DecodePlan:
    """One run over several rows for each token of the source; repeats and blanks are dropped.

    Source: Libovicky and Helcl, arXiv 1811.04719, section 3.
    """
    return DecodePlan(Strategy.CTC, one_shot=OneShotPlan(OneShotPath.CTC, blank_token_id, upsampling))


def levenshtein(
    placeholder_token_id: int, bos_token_id: int, eos_token_id: int, pad_token_id: int, max_rounds: int = 10
) -> DecodePlan:
    """Tokens are deleted, placeholders inserted and filled, until nothing changes.

    Source: Gu et al., arXiv 1905.11006, section 3.
    """
    edit = EditPlan(max_rounds, placeholder_token_id, bos_token_id, eos_token_id, pad_token_id)
    return DecodePlan(Strategy.LEVENSHTEIN, edit=edit)
