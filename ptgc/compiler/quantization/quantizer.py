"""Quantizer: how the weights of a matrix are rounded to a format."""

from __future__ import annotations

from enum import Enum


class Quantizer(str, Enum):
    """How the weights of a matrix are rounded to a format."""

    AUTO = "auto"
    """GPTQ where there is a text, to the nearest elsewhere."""
    RTN = "rtn"
    """Each to the nearest (round to nearest)."""
    HQQ = "hqq"
    """To the nearest, with scales that make most errors small rather than all (half-quadratic quantisation)."""
    AWQ = "awq"
    """To the nearest, channels of large activations scaled up before (activation-aware weight quantisation)."""
    AWQ_GPTQ = "awq-gptq"
    """As AWQ scales, and then as GPTQ rounds."""
    GPTQ = "gptq"
    """One after the other, those behind making up for what is lost."""

    @property
    def needs_text(self) -> bool:
        """Whether it is nothing without a text."""
        return self in (Quantizer.AWQ, Quantizer.AWQ_GPTQ, Quantizer.GPTQ)

    @property
    def reads_text(self) -> bool:
        """Whether a text makes a difference to weights."""
        return self.needs_text or self is Quantizer.AUTO

    @property
    def scales_channels(self) -> bool:
        """Whether channels are scaled before weights are rounded."""
        return self in (Quantizer.AWQ, Quantizer.AWQ_GPTQ)

    @property
    def makes_up(self) -> bool:
        """Whether weights make up for what others lose, where it is known what they are multiplied with."""
        return self in (Quantizer.AUTO, Quantizer.GPTQ, Quantizer.AWQ_GPTQ)

    def resolve(self, *, has_text: bool) -> Quantizer:
        """What AUTO stands for."""
        if self is not Quantizer.AUTO:
            return self
        return Quantizer.GPTQ if has_text else Quantizer.RTN
