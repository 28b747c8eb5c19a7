"""DecodePlan: the frozen, serialisable description of a loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Annotated, Any

from ptgc.spec.acceptance import AcceptanceRule, RelaxedAcceptance, TypicalAcceptance
from ptgc.spec.canvas import CanvasPlan, PolicyKind
from ptgc.spec.drafter import DrafterPlan
from ptgc.spec.edit import EditPlan
from ptgc.spec.fields import Pattern
from ptgc.spec.loop import Loop
from ptgc.spec.one_shot import OneShotPlan
from ptgc.spec.tree import TreeSpec

STRATEGY_NAME = Pattern("[a-z0-9][a-z0-9-]{0,63}", "up to 64 lower-case letters, digits and '-'")
"""Valid names of strategies."""
_POLICIES: Mapping[str, tuple[str, ...]] = {
    Loop.SPECULATIVE: ("drafter", "acceptance", "tree"),
    Loop.CANVAS: ("canvas",),
    Loop.ONE_SHOT: ("one_shot",),
    Loop.EDIT: ("edit",),
}
"""The policies that a plan must have for each loop."""
_PARAMETERS: Mapping[str, tuple[str, ...]] = {Loop.SPECULATIVE: ("typical", "relaxed", "dynamic_tree")}
"""Parameters of policies, which it may have."""


class Guarantee(str, Enum):
    """How a strategy's texts compare with those of plain decoding of the same build."""

    LOSSLESS = "lossless"
    """The same text; sampled texts follow the same distribution."""
    APPROXIMATE = "approximate"
    """The same up to an approximation that the strategy states."""
    LOSSY = "lossy"
    """Different texts."""


@dataclass(frozen=True)
class DecodePlan:
    """One strategy as a composition: a loop and the policies plugged into it."""

    strategy: Annotated[str, STRATEGY_NAME]
    """The name under which the composition is known; a reader need not know it."""
    loop: Loop = Loop.SPECULATIVE
    """The loop that runs it."""
    guarantee: Guarantee = Guarantee.LOSSLESS
    """How its texts compare with those of plain decoding."""
    drafter: DrafterPlan = field(default_factory=DrafterPlan)
    """speculative: proposes tokens."""
    acceptance: AcceptanceRule = AcceptanceRule.MATCH
    """speculative: decides which of them are accepted."""
    typical: TypicalAcceptance | None = None
    """speculative: parameters of the rule `typical`; None for its defaults."""
    relaxed: RelaxedAcceptance | None = None
    """speculative: parameters of the rule `relaxed`; None for its defaults."""
    tree: TreeSpec = field(default_factory=lambda: TreeSpec.chain(0))
    """speculative: the shape of a full proposal; its root is the last committed token."""
    dynamic_tree: bool = False
    """speculative: whether drafts choose their own tree by how likely they are, as deep as `tree` and no larger."""
    canvas: CanvasPlan | None = None
    """canvas: how masked positions are filled."""
    one_shot: OneShotPlan | None = None
    """one-shot: how the text is read from the single run."""
    edit: EditPlan | None = None
    """edit: which operations a round has, and when they end."""

    @property
    def lossless(self) -> bool:
        """Whether the text is that of plain decoding of the same build."""
        return self.guarantee is Guarantee.LOSSLESS

    @property
    def drafts(self) -> bool:
        """Whether rounds may have draft tokens, so that plain decoding differs from the strategy."""
        return self.drafter.num_draft_tokens > 0

    @property
    def always_draws(self) -> bool:
        """Whether texts depend on a seed whatever the temperature."""
        return self.canvas is not None and self.canvas.policy.kind is PolicyKind.RANDOM

    def accepting(
        self,
        rule: AcceptanceRule,
        typical: TypicalAcceptance | None = None,
        relaxed: RelaxedAcceptance | None = None,
    ) -> DecodePlan:
        """This plan with another rule, which may change the guarantee; rules of other loops are ignored."""
        if self.loop is not Loop.SPECULATIVE:
            return self
        guarantee = Guarantee.LOSSLESS if self.acceptance.is_lossy else self.guarantee
        guarantee = Guarantee.LOSSY if rule.is_lossy else guarantee
        return replace(self, acceptance=rule, guarantee=guarantee, typical=typical, relaxed=relaxed)

    @property
    def learned(self) -> DecodePlan:
        """This plan without the drafters that only look up earlier text: that of the roles."""
        own = self.drafter.parts[-1]
        return self if own is self.drafter else replace(self, drafter=own, tree=self.tree.first(own.num_draft_tokens))

    @property
    def filled_tree(self) -> TreeSpec | None:
        """The tree that drafts fill, of which a part may be chosen; None if they are chains or make their own tree."""
        own = self.learned
        return None if own.dynamic_tree or own.tree.is_chain or not own.drafter.fills_tree else own.tree

    def to_json(self) -> dict[str, Any]:
        """This plan as the manifest writes it: the loop and that loop's policies."""
        data: dict[str, Any] = {"loop": self.loop.value}
        if self.loop is Loop.SPECULATIVE:
            data["drafter"] = self.drafter.to_json()
            data["acceptance"] = self.acceptance.value
            data["tree"] = self.tree.to_json()
            data |= {"dynamic_tree": True} if self.dynamic_tree else {}
        for name in ("typical", "relaxed", "canvas", "one_shot", "edit"):
            policies = getattr(self, name)
            if policies is not None:
                data[name] = policies.to_json()
        return data

    @staticmethod
    def json_fields(data: Any) -> Any:
        """The fields from the manifest's form; policies of other loops are ignored."""
        if not isinstance(data, dict):
            return data
        loop = data.get("loop")
        policies = _POLICIES.get(loop, ()) if isinstance(loop, str) else ()
        parameters = [name for name in _PARAMETERS.get(loop, ()) if name in data] if isinstance(loop, str) else ()
        return {name: data.get(name) for name in ("strategy", "loop", "guarantee", *policies, *parameters)}

    def problems(self) -> list[str]:
        """Policies that do not fit each other."""
        found = [f"{name} is missing" for name in _POLICIES[self.loop] if getattr(self, name) is None]
        if self.lossless and self.loop is not Loop.SPECULATIVE:
            found.append(f"guarantee is lossless, as only the speculative loop can be; loop is {self.loop.value}")
        most = self.tree.num_nodes - 1
        if self.drafter.num_draft_tokens > most:
            found.append(f"drafter.num_draft_tokens is {self.drafter.num_draft_tokens}; tree has room for {most}")
        if list(self.tree.depths) != sorted(self.tree.depths):
            found.append("tree must have its nodes in the order of their depths: it is drafted depth by depth")
        if self.acceptance is AcceptanceRule.BLOCK and not self.tree.is_chain:
            found.append("acceptance is block, which takes chains; tree is none")
        if self.acceptance.is_lossy and self.guarantee is not Guarantee.LOSSY:
            found.append(f"acceptance is {self.acceptance.value}, with which the guarantee must be lossy")
        if self.dynamic_tree and self.tree.is_chain:
            found.append("dynamic_tree is true; tree is a chain")
        if self.dynamic_tree and not self.drafter.parts[-1].draws_dynamic_trees:
            found.append(f"dynamic_tree is true, which drafter {self.drafter.parts[-1].kind} does not draft")
        return found + self.drafter.parts[-1].misfits(self.tree)
