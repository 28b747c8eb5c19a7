"""autoregressive: one token a round."""

from __future__ import annotations

from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.base import Strategy


def autoregressive() -> DecodePlan:
    """One token a round."""
    return DecodePlan(STRATEGY.name)


STRATEGY = Strategy(
    name="autoregressive",
    loop=Loop.SPECULATIVE,
    guarantee=Guarantee.LOSSLESS,
    summary="One token a round, as the model was made to write.",
    plan=lambda _options, _facts: autoregressive(),
    exporter="ptgc.exporters.strategies.causal:EXPORTER",
)
