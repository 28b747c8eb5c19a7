"""ctc: one run over several rows for each token of the source."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ptgc.spec.fields import Range, TokenId
from ptgc.spec.limits import MAX_UPSAMPLING
from ptgc.spec.loop import Loop
from ptgc.spec.one_shot import OneShotPath, OneShotPlan
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.base import CheckpointFacts, Strategy


@dataclass(frozen=True)
class CtcOptions:
    """What the rows of the run mean."""

    blank_token_id: TokenId
    """The token that stands for nothing."""
    upsampling: Annotated[int, Range(1, MAX_UPSAMPLING)] = 2
    """Rows for each token of the source."""


def ctc(blank_token_id: int, upsampling: int) -> DecodePlan:
    """One run over several rows for each token of the source; repeats and blanks are dropped."""
    return DecodePlan(
        STRATEGY.name,
        STRATEGY.loop,
        STRATEGY.guarantee,
        one_shot=OneShotPlan(OneShotPath.CTC, blank_token_id, upsampling),
    )


def _plan(options: CtcOptions, _facts: CheckpointFacts) -> DecodePlan:
    return ctc(options.blank_token_id, options.upsampling)


STRATEGY = Strategy(
    name="ctc",
    loop=Loop.ONE_SHOT,
    guarantee=Guarantee.LOSSY,
    summary="One run over several rows for each token of the source; repeats and blanks are dropped.",
    source="Libovicky and Helcl, arXiv 1811.04719, section 3",
    options=CtcOptions,
    plan=_plan,
)
