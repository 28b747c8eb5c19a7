"""Rules of acceptance in plans and as options."""

from __future__ import annotations

from dataclasses import MISSING, replace
from typing import Any

import pytest

from ptgc.errors import UsageError
from ptgc.spec.acceptance import AcceptanceRule, RelaxedAcceptance, TypicalAcceptance
from ptgc.spec.fields import read
from ptgc.spec.json_file import UnreadableError
from ptgc.spec.options import make_options, options_of
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies import BUILT_IN, find_strategy
from ptgc.spec.strategies.base import AcceptanceOptions, CheckpointFacts
from ptgc.spec.strategies.draft_model import draft_model
from ptgc.spec.strategies.masked_diffusion import masked_diffusion
from ptgc.spec.tree import TreeSpec

NEEDED: dict[str, Any] = {"drafter": "x", "heads": "x"}
"""Options without a default, of any strategy."""
_ALSO: dict[str, dict[str, Any]] = {"layer-skip": {"num_layers": 1}}
"""Options that are needed if another one is not given."""
JUDGED: dict[str, dict[str, Any]] = {
    name: {one.name: NEEDED[one.name] for one in options_of(find_strategy(name).options) if one.default is MISSING}
    | _ALSO.get(name, {})
    for name in BUILT_IN
    if issubclass(find_strategy(name).options, AcceptanceOptions)
}
"""Strategies that have the rule as an option, with what else they need."""


def plan_of(name: str, **values: Any) -> DecodePlan:
    strategy = find_strategy(name)
    assert strategy.plan is not None
    return strategy.plan(
        make_options(strategy.options, JUDGED[name] | values, name), CheckpointFacts(mask_token_id=3, block_size=8)
    )


@pytest.mark.parametrize("name", JUDGED)
def test_every_strategy_has_the_same_options(name: str) -> None:
    own = {option.name: option for option in options_of(find_strategy(name).options)}
    shared = options_of(AcceptanceOptions)
    assert [own[option.name] for option in shared] == list(shared)
    assert all(option.help for option in own.values())
    assert next(iter(own)) not in {option.name for option in shared}  # its own come first


@pytest.mark.parametrize("name", JUDGED)
def test_options_become_the_plans_rule_and_guarantee(name: str) -> None:
    assert plan_of(name).guarantee is Guarantee.LOSSLESS
    block = plan_of(name, acceptance="block")
    assert (block.acceptance, block.lossless, block.problems()) == (AcceptanceRule.BLOCK, True, [])
    typical = plan_of(name, acceptance="typical", typical_delta=0.5)
    assert (typical.guarantee, typical.typical) == (Guarantee.LOSSY, TypicalAcceptance(0.09, 0.5))
    relaxed = plan_of(name, acceptance="relaxed", relaxed_top_k=2, relaxed_margin=1)
    assert (relaxed.guarantee, relaxed.relaxed) == (Guarantee.LOSSY, RelaxedAcceptance(2, 1.0))
    assert relaxed.problems() == []
    assert relaxed.to_json()["relaxed"] == {"top_k": 2, "margin": 1.0}
    assert "typical" not in relaxed.to_json()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"acceptance": "lenient"}, "--acceptance is 'lenient'; it must be one of match, speculative, block, typical"),
        ({"acceptance": "typical", "typical_epsilon": 1.5}, "--typical-epsilon is 1.5; it must be from 0 to 1"),
        ({"acceptance": "typical", "typical_delta": -0.1}, "--typical-delta is -0.1"),
        ({"acceptance": "relaxed", "relaxed_top_k": 0}, "--relaxed-top-k is 0; it must be from 1 to 1024"),
        ({"acceptance": "relaxed", "relaxed_margin": 101}, "--relaxed-margin is 101"),
        ({"typical_epsilon": 0.5}, "--typical-epsilon: only --acceptance typical has this, not match"),
        (
            {"acceptance": "typical", "relaxed_top_k": 3, "relaxed_margin": 2.0},
            "--relaxed-top-k, --relaxed-margin: only --acceptance relaxed has this, not typical",
        ),
    ],
)
def test_parameters_out_of_range_or_of_another_rule_are_refused(values: dict[str, Any], said: str) -> None:
    for name in JUDGED:
        with pytest.raises(UsageError, match=said):
            plan_of(name, **values)


def test_a_tree_takes_every_rule_but_block() -> None:
    for rule in AcceptanceRule:
        plan = draft_model(acceptance=rule, tree=TreeSpec((-1, 0, 0, 1)))
        assert bool(plan.problems()) == (rule is AcceptanceRule.BLOCK)
    with pytest.raises(UsageError, match="--acceptance is block, which takes chains; --tree is none"):
        plan_of("eagle3", acceptance="block", tree="2,2")


def test_a_lossy_rule_cannot_claim_to_be_lossless() -> None:
    lossy = draft_model(acceptance=AcceptanceRule.TYPICAL)
    assert lossy.guarantee is Guarantee.LOSSY
    claims = replace(lossy, guarantee=Guarantee.LOSSLESS)
    assert claims.problems() == ["acceptance is typical, with which the guarantee must be lossy"]
    assert lossy.accepting(AcceptanceRule.BLOCK).lossless
    canvas = masked_diffusion(3)
    assert canvas.accepting(AcceptanceRule.MATCH) is canvas


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("typical", {"epsilon": 2, "delta": 0.3}),
        ("typical", {"epsilon": 0.1, "delta": "x"}),
        ("typical", [1]),
        ("relaxed", {"top_k": 1025, "margin": 1}),
        ("relaxed", {"top_k": 1.5, "margin": 1}),
        ("relaxed", {"top_k": 1, "margin": 1e3}),
        ("acceptance", "lenient"),
    ],
)
def test_a_plan_with_bad_parameters_is_refused(field: str, value: object) -> None:
    good = draft_model(acceptance=AcceptanceRule.TYPICAL)
    document = good.to_json() | {"strategy": good.strategy, "guarantee": "lossy"}
    assert read(DecodePlan, document) == good
    with pytest.raises(UnreadableError, match=field):
        read(DecodePlan, document | {field: value})
