"""Steps of a canvas that are drafted and verified in one run: the text of filling step by step, in fewer runs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ptgc.cli.app import app
from ptgc.compiler.checking.check import check_bundle
from ptgc.errors import UsageError
from ptgc.runtime import Generator
from ptgc.spec.canvas import CanvasPlan, CanvasStop, PolicyKind, PolicyPlan, Schedule
from ptgc.spec.strategies.masked_diffusion import masked_diffusion
from tests.loops import loop_build
from tests.unmasking import INFILLED, MASK, PLANS, Rounds, bert_logits, llama_logits, unmask

LOGITS = {"bert": bert_logits, "llama": llama_logits}
PROMPTS = [[9, 10, 11], [20], [5, 6, 7, 8], [31, 12]]
DRAFTS = 3
ONE_BY_ONE = CanvasPlan(MASK, 40, num_draft_steps=DRAFTS)
TWO_BY_TWO = CanvasPlan(MASK, 4, 8, PolicyPlan(PolicyKind.MARGIN), schedule=Schedule.PER_BLOCK, num_draft_steps=DRAFTS)
CHANGING = replace(PLANS["entropy"], num_draft_steps=DRAFTS)  # with a threshold, and a schedule that is not even


def _generator(place: Path, name: str, plan: CanvasPlan, batch: int, precision: str = "float32") -> Generator:
    made = loop_build(place, name, replace(masked_diffusion(MASK), canvas=plan), batch, precision)
    return Generator(made.parents[1], build=made.name)


def _fills(trace: Any) -> list[tuple[int, int]]:
    """The tokens in the order in which they were filled in, those of a step by position."""
    return [one for step in trace for one in zip(step.filled_positions, step.filled_ids, strict=True)]


def _in_order(rounds: Rounds) -> list[tuple[int, int]]:
    return [one for step in rounds for one in sorted(step.items())]


@pytest.mark.parametrize(
    ("name", "batch", "precision", "plan"),
    [
        ("bert", 1, "float32", ONE_BY_ONE),
        ("bert", 4, "int8", ONE_BY_ONE),
        ("llama", 1, "int8", ONE_BY_ONE),
        ("llama", 4, "float32", ONE_BY_ONE),
        ("llama", 4, "float32", TWO_BY_TWO),
        ("bert", 1, "float32", CHANGING),
    ],
    ids=["bert", "bert-4-int8", "llama-int8", "llama-4", "blocks", "threshold"],
)
def test_drafted_steps_fill_what_single_steps_fill_in_fewer_runs(
    name: str, batch: int, precision: str, plan: CanvasPlan, place: Path
) -> None:
    texts = [*INFILLED, *([*prompt, *[MASK] * 12] for prompt in PROMPTS)]
    with _generator(place, name, plan, batch, precision) as generator:
        found = generator.generate(texts, trace=True)
        plain = generator.generate(texts, trace=True, plain=True)
    for text, drafted, single in zip(texts, found, plain, strict=True):
        assert drafted.token_ids == single.token_ids
        assert _fills(drafted.trace) == _fills(single.trace)
        if precision == "float32":
            assert _fills(drafted.trace) == _in_order(unmask(LOGITS[name], text, plan))
        assert (drafted.strategy, single.strategy) == ("masked-diffusion", "masked-diffusion")
        counts = drafted.statistics
        assert counts.rounds == len(drafted.trace) <= len(single.trace)
        assert counts.accepted_tokens == sum(round_.accepted for round_ in drafted.trace)
        assert (single.statistics.drafted_tokens, single.statistics.plain_rounds) == (0, len(single.trace))
    rounds, drafted_tokens, accepted = (
        sum(getattr(one.statistics, field) for one in found)
        for field in ("rounds", "drafted_tokens", "accepted_tokens")
    )
    assert rounds < sum(len(one.trace) for one in plain)
    assert 0 < accepted < drafted_tokens  # some were wrong


def test_samples_and_random_orders_are_those_of_single_steps(place: Path) -> None:
    sampled = PolicyPlan(sampled=True)
    for policy in (sampled, PolicyPlan(PolicyKind.RANDOM)):
        options: dict[str, Any] = {"temperature": 0.8} if policy.sampled else {}
        plan = replace(ONE_BY_ONE, policy=policy, num_draft_steps=1)
        with _generator(place, "bert", plan, 1) as generator:
            found, single = (
                generator.generate(PROMPTS, max_new_tokens=9, seed=5, trace=True, plain=plain, **options)
                for plain in (False, True)
            )
        assert [_fills(one.trace) for one in found] == [_fills(one.trace) for one in single]


def test_a_text_ends_at_the_same_step(place: Path) -> None:
    plan = replace(ONE_BY_ONE, stop=CanvasStop.EOS)
    with _generator(place, "llama", plan, 1) as generator:
        whole = generator.generate(PROMPTS[0], max_new_tokens=12).token_ids
        found, single = (
            generator.generate(PROMPTS[0], max_new_tokens=12, stop_token_ids=[whole[2]], trace=True, plain=plain)
            for plain in (False, True)
        )
    assert found.token_ids == single.token_ids == whole[: whole.index(whole[2]) + 1]
    assert _fills(found.trace) == _fills(single.trace)


def test_the_commands_draft_steps(place: Path, tmp_path: Path) -> None:
    with _generator(place, "bert", ONE_BY_ONE, 1) as generator:
        bundle = generator.bundle.path
        assert all(report.passed for report in check_bundle(bundle))
        with pytest.raises(UsageError, match="num_steps is 0"):
            generator.generate([5, 6], max_new_tokens=3, num_steps=0)
    shown = CliRunner().invoke(app, ["inspect", str(bundle)]).stdout
    assert "up to 40 rounds for a canvas, 3 steps drafted" in shown
    run = ["run", str(bundle), "--prompt-ids", "9,10,11", "--max-new-tokens", "12", "--json"]
    found, single = (json.loads(CliRunner().invoke(app, [*run, *more]).stdout) for more in ([], ["--plain"]))
    assert found["token_ids"] == single["token_ids"]
    assert found["stats"]["rounds"] < single["stats"]["rounds"] == 12
    assert found["stats"]["mean_accept_length"] > single["stats"]["mean_accept_length"] == 1
