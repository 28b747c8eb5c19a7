"""Rounds of real texts: what was drafted and accepted, and what they would have cost with fewer drafts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

from ptgc.compiler.tuning.prediction import round_seconds
from ptgc.runtime.costs import CostCurve
from ptgc.runtime.generator import Generator
from ptgc.runtime.load_options import LoadOptions
from ptgc.spec.bundle import Build
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


def replayed_seconds(rounds: Sequence[DraftedRound], curve: CostCurve, most: int, rows_at_once: int = 0) -> float:
    """Seconds for the same text if no round drafted more than `most` tokens.

    If a round accepted more than that, the remaining drafts move to the next round: accepted tokens are part of the
    text, whichever round drafts them. `rows_at_once` is that of `round_seconds`.
    """
    cost = {
        by_model: [round_seconds(curve, drafts, rows_at_once, runs_drafter=by_model) for drafts in range(most + 1)]
        for by_model in (False, True)
    }
    total = 0.0
    for one in rounds:
        drafted, left = one.drafted, one.accepted + 1
        while left > 0:
            tried = min(drafted, most)
            total += cost[one.runs_drafter][tried]
            written = min(left - 1, tried) + 1
            left -= written
            drafted -= written
    return total


def accepted_shares(rounds: Sequence[DraftedRound]) -> tuple[float, ...]:
    """The shares of rounds with drafts that accepted at least 1, 2, ... tokens."""
    drafting = [one for one in rounds if one.drafted]
    longest = max((one.accepted for one in drafting), default=0)
    return tuple(sum(one.accepted >= kept for one in drafting) / len(drafting) for kept in range(1, longest + 1))


def predicted_seconds(
    rounds: Sequence[DraftedRound], curve: CostCurve, most: int, rows_at_once: int = 0
) -> list[float]:
    """Seconds per token with at most 0, 1, ... `most` draft tokens per round."""
    tokens = sum(one.accepted + 1 for one in rounds)
    return [replayed_seconds(rounds, curve, drafts, rows_at_once) / tokens for drafts in range(most + 1)]


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
    options = asdict(loading)
    with Generator(bundle, build=build.manifest.id, num_threads=num_threads, verify=False, **options) as generator:
        last = len(generator.bundle.manifest.plan.drafter.parts) - 1
        for one in sets:
            for prompt in one.prompts:
                result = generator.generate(prompt.ids, max_new_tokens=max_new_tokens, trace=True)
                written = [done for done in result.trace if done.emitted_ids]
                # The first token comes from the round that reads the end of the prompt, whatever is drafted there.
                for done in written[1:]:
                    yield DraftedRound(len(done.drafted_ids), done.accepted, runs_drafter=done.part == last)
