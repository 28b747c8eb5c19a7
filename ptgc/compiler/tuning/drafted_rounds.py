"""Rounds of real texts: what was drafted and accepted, and what they would have cost with fewer drafts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ptgc.compiler.tuning.prediction import round_seconds
from ptgc.runtime.costs import CostCurve
from ptgc.runtime.generator import Generator
from ptgc.runtime.load_options import LoadOptions
from ptgc.spec.bundle import Build
from ptgc.spec.tree import TreeSpec
from ptgc.texts.prompt_set import PromptSet


@dataclass(frozen=True)
class DraftedRound:
    """A round of the speculative loop."""

    drafted: int
    """Draft tokens verified."""
    accepted: int
    """Draft tokens accepted; the round wrote one token more."""
    runs_drafter: bool = True
    """Whether a model drafted, if there is one, and not a lookup that is merged with it."""
    ranks: tuple[int, ...] = ()
    """Of a tree: the ranks of the accepted drafts among their siblings."""
    children: tuple[int, ...] = ()
    """Of a tree: how many children the root and each accepted draft had."""


def taken_seconds(
    rounds: Sequence[DraftedRound], curve: CostCurve, rows_at_once: int = 0, tree: TreeSpec | None = None
) -> float:
    """Seconds per token of rounds as they were; the parameters are those of `round_seconds`."""
    seconds = (
        round_seconds(curve, one.drafted, rows_at_once, tree=tree, runs_drafter=one.runs_drafter) for one in rounds
    )
    return sum(seconds) / sum(one.accepted + 1 for one in rounds)


def replayed_seconds(
    rounds: Sequence[DraftedRound],
    curve: CostCurve,
    most: int,
    rows_at_once: int = 0,
    tree: TreeSpec | None = None,
) -> float:
    """Seconds for the same text if no round drafted more than `most` tokens.

    If a round accepted more than that, the remaining drafts move to the next round: accepted tokens are part of the
    text, whichever round drafts them. With a tree, rounds drafted a larger one, and would have drafted the first nodes
    of this one. `rows_at_once` is that of `round_seconds`.
    """
    cost = {
        by_model: [
            round_seconds(curve, drafts, rows_at_once, tree=tree, runs_drafter=by_model) for drafts in range(most + 1)
        ]
        for by_model in (False, True)
    }
    places = {} if tree is None else {one: node for node, one in enumerate(zip(tree.parents, tree.ranks, strict=True))}
    total = 0.0
    for one in rounds:
        drafted, left = one.drafted, one.accepted + 1
        while left > 0:
            tried = min(drafted, most)
            kept = min(left - 1, tried)
            if tree is None or not one.runs_drafter:
                drafted -= kept + 1
            else:
                tried = min(tried, tree.num_nodes - 1)
                kept = _depth(places, one.ranks[one.accepted + 1 - left : one.accepted], tried)
            total += cost[one.runs_drafter][tried]
            left -= kept + 1
    return total


def _depth(places: Mapping[tuple[int, int], int], path: Sequence[int], most: int) -> int:
    """How far a path of ranks goes within the first `most` drafts of a tree."""
    node = 0
    for depth, rank in enumerate(path):
        node = places.get((node, rank), most + 1)
        if node > most:
            return depth
    return len(path)


def accepted_shares(rounds: Sequence[DraftedRound]) -> tuple[float, ...]:
    """The shares of rounds with drafts that accepted at least 1, 2, ... tokens; empty if no round had drafts."""
    drafting = [one for one in rounds if one.drafted]
    longest = max((max(one.accepted, 1) for one in drafting), default=0)
    return tuple(sum(one.accepted >= kept for one in drafting) / len(drafting) for kept in range(1, longest + 1))


def predicted_seconds(
    rounds: Sequence[DraftedRound],
    curve: CostCurve,
    most: int,
    rows_at_once: int = 0,
    tree: TreeSpec | None = None,
) -> list[float]:
    """Seconds per token with at most 0, 1, ... `most` draft tokens per round; see `replayed_seconds`."""
    tokens = sum(one.accepted + 1 for one in rounds)
    return [replayed_seconds(rounds, curve, drafts, rows_at_once, tree) / tokens for drafts in range(most + 1)]


def drafted_rounds(
    build: Build,
    sets: Sequence[PromptSet],
    max_new_tokens: int,
    loading: LoadOptions,
    num_threads: int | None = None,
) -> Iterator[DraftedRound]:
    """Write a greedy text for every prompt, and yield its rounds.

    Args:
        build: The build to run.
        sets: The prompts.
        max_new_tokens: Most new tokens of each text.
        loading: Load options, which say how it drafts.
        num_threads: Threads of the engine; None leaves the number to the generator.
    """
    bundle = build.path.parent.parent
    name = build.manifest.id
    with Generator(bundle, build=name, num_threads=num_threads, verify=False, **vars(loading)) as generator:
        last = len(generator.bundle.manifest.plan.drafter.parts) - 1
        for one in sets:
            for prompt in one.prompts:
                result = generator.generate(prompt.ids, max_new_tokens=max_new_tokens, trace=True)
                written = [done for done in result.trace if done.emitted_ids]
                # The first token comes from the round that reads the end of the prompt, whatever is drafted there.
                for done in written[1:]:
                    ranks = TreeSpec((-1, *done.parents)).ranks
                    yield DraftedRound(
                        len(done.drafted_ids),
                        done.accepted,
                        runs_drafter=done.part == last,
                        ranks=tuple(ranks[node] for node in done.path),
                        children=tuple(done.parents.count(node) for node in (0, *done.path)),
                    )
