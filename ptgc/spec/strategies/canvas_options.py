"""Options of strategies that fill canvases: rounds, policy and schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ptgc.spec.canvas import THRESHOLDS, CanvasPlan, CanvasStop, ConfidenceOf, PolicyKind, PolicyPlan, Schedule
from ptgc.spec.fields import Range
from ptgc.spec.limits import MAX_ROUNDS


@dataclass(frozen=True, kw_only=True)
class UnmaskingOptions:
    """Which masked positions a round fills, and with what."""

    num_steps: Annotated[int, Range(1, MAX_ROUNDS)] = 16
    """Most rounds that fill a canvas, or with --schedule per-block each of its blocks. A request may change it."""
    policy: PolicyKind = PolicyKind.CONFIDENCE
    """Which positions are filled first: those of the most probable tokens (confidence, factor), of the lowest entropy,
    of the largest margin between two tokens, in random order, or sequentially; own is for modules that are exported
    from Python."""
    threshold: float | None = None
    """Fill more positions in a round: all of more confidence or margin than this, between 0 and 1; with the policy
    factor, the one of rank r (from 0) if (r + 2)(1 - confidence) is less; with entropy, as long as the sum of entropies
    is less. A request may change it."""
    schedule: Schedule = Schedule.LINEAR
    """How many positions a round must fill: an equal share (linear), few at first (cosine), or an equal share of a
    whole block, however much of it is masked (per-block)."""
    sampling: bool = False
    """Let requests sample tokens with a temperature."""
    confidence_of: ConfidenceOf = ConfidenceOf.MODEL
    """Rank positions by the model's probabilities, or by those after the temperature (sampled)."""
    stop: CanvasStop = CanvasStop.BLOCK
    """End a text at an end token in a finished block, or as soon as no mask is before one (eos)."""

    def canvas(self, mask_token_id: int, block_length: int) -> CanvasPlan:
        """The plan of a canvas without a cache."""
        policy = PolicyPlan(self.policy, self.threshold, self.sampling, self.confidence_of)
        return CanvasPlan(mask_token_id, self.num_steps, block_length, policy, schedule=self.schedule, stop=self.stop)

    def problems(self) -> list[str]:
        """A threshold that adds all positions or none, and options that need others."""
        found = []
        if self.policy is PolicyKind.OWN:
            found.append("--policy is own, which needs a module: call ptgc.exporters.export (docs/adding-a-model.md).")
        known = THRESHOLDS.get(self.policy)
        if self.threshold is not None and known is None:
            found.append(f"--threshold is {self.threshold}; --policy {self.policy.value} has none.")
        elif self.threshold is not None and known is not None and not 0 < self.threshold < known.most:
            found.append(f"--threshold is {self.threshold}; it must be between 0 and {known.most:g}.")
        if self.confidence_of is ConfidenceOf.SAMPLED and not self.sampling:
            found.append("--confidence-of is sampled, which needs --sampling.")
        return found
