"""autoregressive: one token a round."""

from __future__ import annotations

from dataclasses import dataclass

from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.base import CheckpointFacts, Strategy


@dataclass(frozen=True)
class AutoregressiveOptions:
    """Plain decoding has nothing to choose."""


def autoregressive() -> DecodePlan:
    """One token a round."""
    return DecodePlan(STRATEGY.name)


def _plan(_options: AutoregressiveOptions, _facts: CheckpointFacts) -> DecodePlan:
    return autoregressive()


STRATEGY = Strategy(
    name="autoregressive",
    loop=Loop.SPECULATIVE,
    guarantee=Guarantee.LOSSLESS,
    summary="One token a round, as the model was made to write.",
    options=AutoregressiveOptions,
    plan=_plan,
    exporter="ptgc.exporters.strategies.causal:EXPORTER",
)
