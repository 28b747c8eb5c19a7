"""DecodePlan: the frozen, serialisable description of a loop; ShapePlan: the shapes that a build may run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ptgc.spec.acceptance import AcceptanceRule
from ptgc.spec.strategy import DrafterKind, Loop, Strategy
from ptgc.spec.tree import TreeSpec


@dataclass(frozen=True)
class DrafterPlan:
    """Where draft tokens come from, and how many."""

    kind: DrafterKind = DrafterKind.NONE
    """Which drafter."""
    num_draft_tokens: int = 0
    """The most draft tokens in a round; fewer where the build's measured costs say so."""
    max_ngram_size: int = 0
    """ngram: the longest suffix of the text that is looked up, tried first."""
    min_ngram_size: int = 0
    """ngram: the shortest suffix that counts as a match."""

    def to_json(self) -> dict[str, Any]:
        """This drafter as the manifest writes it."""
        data: dict[str, Any] = {"kind": self.kind.value, "num_draft_tokens": self.num_draft_tokens}
        if self.kind is DrafterKind.NGRAM:
            data |= {"max_ngram_size": self.max_ngram_size, "min_ngram_size": self.min_ngram_size}
        return data

    @staticmethod
    def from_json(data: dict[str, Any]) -> DrafterPlan:
        """A drafter from the manifest's form."""
        return DrafterPlan(
            kind=DrafterKind(data["kind"]),
            num_draft_tokens=data["num_draft_tokens"],
            max_ngram_size=data.get("max_ngram_size", 0),
            min_ngram_size=data.get("min_ngram_size", 0),
        )


@dataclass(frozen=True)
class DecodePlan:
    """One strategy as a composition: a loop and the policies plugged into it."""

    strategy: Strategy
    """The name under which the composition is known."""
    drafter: DrafterPlan = field(default_factory=DrafterPlan)
    """Proposes tokens."""
    acceptance: AcceptanceRule = AcceptanceRule.GREEDY
    """Decides which of them are kept."""
    tree: TreeSpec = field(default_factory=lambda: TreeSpec.chain(0))
    """The shape of a full proposal; its root is the last committed token."""

    @property
    def loop(self) -> Loop:
        """The loop that runs this plan."""
        return self.strategy.loop

    def to_json(self) -> dict[str, Any]:
        """This plan as the manifest writes it."""
        return {
            "loop": self.loop.value,
            "drafter": self.drafter.to_json(),
            "acceptance": self.acceptance.value,
            "tree": self.tree.to_json(),
        }

    @staticmethod
    def from_json(strategy: str, data: dict[str, Any]) -> DecodePlan:
        """A plan from the manifest's form."""
        return DecodePlan(
            strategy=Strategy(strategy),
            drafter=DrafterPlan.from_json(data["drafter"]),
            acceptance=AcceptanceRule(data["acceptance"]),
            tree=TreeSpec.from_json(data["tree"]),
        )


def autoregressive() -> DecodePlan:
    """One token a round."""
    return DecodePlan(Strategy.AUTOREGRESSIVE)


def ngram(num_draft_tokens: int = 15, max_ngram_size: int = 8, min_ngram_size: int = 2) -> DecodePlan:
    """Prompt lookup: the continuation of the longest earlier occurrence of the text's last tokens.

    Source: Saxena, "Prompt Lookup Decoding" (2023); LLMA, arXiv 2304.04487, section 3.
    """
    drafter = DrafterPlan(DrafterKind.NGRAM, num_draft_tokens, max_ngram_size, min_ngram_size)
    return DecodePlan(Strategy.NGRAM, drafter, tree=TreeSpec.chain(num_draft_tokens))


@dataclass(frozen=True, order=True)
class ShapePoint:
    """One tuple of sizes at which a role's graph may run."""

    batch: int
    """Sequences."""
    num_tokens: int
    """Rows of a round."""
    kv_capacity: int
    """Slots of the cache."""
    num_logits: int
    """Rows for which logits are computed."""

    def to_json(self) -> list[int]:
        """`[batch, num_tokens, kv_capacity, num_logits]`."""
        return [self.batch, self.num_tokens, self.kv_capacity, self.num_logits]


@dataclass(frozen=True)
class ShapePlan:
    """Every shape that a build may run; the runtime never leaves it.

    A round runs at the smallest width that holds its rows. `kv_capacities` exceed the lengths they serve by the
    largest width, because padded rows are written too.
    """

    batch: int
    """Sequences that step together."""
    max_length: int
    """Tokens of one sequence, prompt and text."""
    widths: tuple[int, ...]
    """Numbers of rows of a round, ascending; the first is 1, the last a prefill chunk."""
    verify_width: int
    """The widest round whose every row has logits; wider ones are prefill, with logits for the last row."""
    kv_capacities: tuple[int, ...]
    """Cache sizes, ascending; a session that outgrows one moves to the next by a copy."""

    @property
    def points(self) -> tuple[ShapePoint, ...]:
        """All shape points, ascending."""
        found = set()
        for capacity in self.kv_capacities:
            for width in self.widths:
                found.add(ShapePoint(self.batch, width, capacity, 1))
                found.add(ShapePoint(self.batch, width, capacity, min(width, self.verify_width)))
        return tuple(sorted(found))

    def to_json(self) -> dict[str, Any]:
        """This plan as build.json writes it."""
        return {
            "batch": self.batch,
            "max_length": self.max_length,
            "widths": list(self.widths),
            "verify_width": self.verify_width,
            "kv_capacities": list(self.kv_capacities),
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> ShapePlan:
        """A plan from build.json's form."""
        return ShapePlan(
            batch=data["batch"],
            max_length=data["max_length"],
            widths=tuple(data["widths"]),
            verify_width=data["verify_width"],
            kv_capacities=tuple(data["kv_capacities"]),
        )
