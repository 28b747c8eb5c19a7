"""Rounds of real texts: what was drafted, what was kept, and what they would have cost with fewer drafts."""

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
    """How many were kept; the round wrote one token more."""


def replayed_seconds(rounds: Sequence[DraftedRound], curve: CostCurve, most: int) -> float:
    """Seconds of the same text if no round drafted more than `most` tokens.

    Where a round kept more than that, the drafts behind go on in the next one: what was accepted is what the text
    says, whichever round drafts it.
    """
    cost = {drafts: round_seconds(curve, drafts) for drafts in range(most + 1)}
    total = 0.0
    for one in rounds:
        drafted, left = one.drafted, one.accepted + 1
        while left > 0:
            tried = min(drafted, most)
            total += cost[tried]
            written = min(left - 1, tried) + 1
            left -= written
            drafted -= written
    return total


def accepted_shares(rounds: Sequence[DraftedRound]) -> tuple[float, ...]:
    """Share of the rounds with drafts that kept so many or more, from one on."""
    drafting = [one for one in rounds if one.drafted]
    longest = max((one.accepted for one in drafting), default=0)
    return tuple(sum(one.accepted >= kept for one in drafting) / len(drafting) for kept in range(1, longest + 1))


def predicted_seconds(rounds: Sequence[DraftedRound], curve: CostCurve, most: int) -> list[float]:
    """Seconds a token with no more than 0, 1, ... `most` draft tokens a round."""
    tokens = sum(one.accepted + 1 for one in rounds)
    return [replayed_seconds(rounds, curve, drafts) / tokens for drafts in range(most + 1)]


def drafted_rounds(
    build: Build,
    sets: Sequence[PromptSet],
    max_new_tokens: int,
    loading: LoadOptions,
    num_threads: int | None = None,
) -> Iterator[DraftedRound]:
    """Rounds of the greedy text of every prompt.

    Args:
        build: What writes.
        sets: The prompts.
        max_new_tokens: Of each text.
        loading: How it drafts.
        num_threads: Threads of the engine; None takes the generator's choice.
    """
    bundle = build.path.parent.parent
    options = asdict(loading)
    with Generator(bundle, build=build.manifest.id, num_threads=num_threads, verify=False, **options) as generator:
        for one in sets:
            for prompt in one.prompts:
                result = generator.generate(prompt.ids, max_new_tokens=max_new_tokens, trace=True)
                written = [done for done in result.trace if done.emitted_ids]
                # The first token comes with the end of the prompt, whatever is drafted behind it.
                yield from (DraftedRound(len(done.drafted_ids), done.accepted) for done in written[1:])
