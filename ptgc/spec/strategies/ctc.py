"""ctc: one run over several rows for each token of the source."""

from __future__ import annotations

from ptgc.spec.loop import Loop
from ptgc.spec.one_shot import OneShotPath, OneShotPlan
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.base import Strategy


def ctc(blank_token_id: int, upsampling: int) -> DecodePlan:
    """One run over several rows for each token of the source; repeats and blanks are dropped."""
    return DecodePlan(
        STRATEGY.name,
        STRATEGY.loop,
        STRATEGY.guarantee,
        one_shot=OneShotPlan(OneShotPath.CTC, blank_token_id, upsampling),
    )


STRATEGY = Strategy(
    name="ctc",
    loop=Loop.ONE_SHOT,
    guarantee=Guarantee.LOSSY,
    summary="One run over several rows for each token of the source; repeats and blanks are dropped.",
    source="Libovicky and Helcl, arXiv 1811.04719, section 3",
)
