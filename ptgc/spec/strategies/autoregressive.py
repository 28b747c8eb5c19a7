"""autoregressive: one token per round."""

from __future__ import annotations

from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.base import Strategy


def autoregressive() -> DecodePlan:
    """One token per round."""
    return DecodePlan(STRATEGY.name)


STRATEGY = Strategy(
    name="autoregressive",
    loop=Loop.SPECULATIVE,
    guarantee=Guarantee.LOSSLESS,
    summary="One token per round: plain decoding.",
    plan=lambda _options, _facts: autoregressive(),
    exporter="ptgc.exporters.strategies.causal:EXPORTER",
)
