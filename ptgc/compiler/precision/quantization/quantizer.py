"""Quantizer: how the weights of a matrix are rounded to a format."""

from __future__ import annotations

from enum import Enum


class Quantizer(str, Enum):
    """How the weights of a matrix are rounded to a format."""

    AUTO = "auto"
    """The best for a precision, see `resolve`."""
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
    def reads_text(self) -> bool:
        """Whether it is nothing without a text."""
        return self.scales_channels or self.makes_up

    @property
    def scales_channels(self) -> bool:
        """Whether channels are scaled before weights are rounded."""
        return self in (Quantizer.AWQ, Quantizer.AWQ_GPTQ)

    @property
    def makes_up(self) -> bool:
        """Whether weights make up for what others lose, where it is known what they are multiplied with."""
        return self in (Quantizer.GPTQ, Quantizer.AWQ_GPTQ)

    def resolve(self, precision: str, *, has_text: bool) -> Quantizer:
        """How a role's weights are rounded: AUTO takes the best that was measured (docs/precision.md).

        Args:
            precision: Of the role.
            has_text: Whether there is a text that the role reads; what needs one is RTN without.
        """
        wanted = self
        if self is Quantizer.AUTO:
            wanted = Quantizer.AWQ_GPTQ if precision in ("int8", "int4") else Quantizer.GPTQ
        return wanted if has_text or not wanted.reads_text else Quantizer.RTN
