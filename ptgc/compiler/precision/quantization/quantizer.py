"""Quantizer: how the weights of a matrix are rounded to a format."""

from __future__ import annotations

from enum import Enum


class Quantizer(str, Enum):
    """How the weights of a matrix are rounded to a format."""

    AUTO = "auto"
    """The best for the precision, see `resolve`."""
    RTN = "rtn"
    """Each weight to the nearest (round to nearest)."""
    HQQ = "hqq"
    """To the nearest, with scales that keep most errors small rather than all (half-quadratic quantisation)."""
    AWQ = "awq"
    """To the nearest, after scaling up channels of large activations (activation-aware weight quantisation)."""
    AWQ_GPTQ = "awq-gptq"
    """Scaled as in AWQ, then rounded as in GPTQ."""
    GPTQ = "gptq"
    """One weight after the other; later weights compensate for the errors of earlier ones."""

    @property
    def reads_text(self) -> bool:
        """Whether it needs a text."""
        return self.scales_channels or self.makes_up

    @property
    def scales_channels(self) -> bool:
        """Whether channels are scaled before weights are rounded."""
        return self in (Quantizer.AWQ, Quantizer.AWQ_GPTQ)

    @property
    def makes_up(self) -> bool:
        """Whether weights compensate for the errors of others, which needs second moments of the inputs."""
        return self in (Quantizer.GPTQ, Quantizer.AWQ_GPTQ)

    def resolve(self, precision: str, *, has_text: bool) -> Quantizer:
        """How a role's weights are rounded: AUTO takes the best according to measurements (docs/precision.md).

        Args:
            precision: The role's precision.
            has_text: Whether there is a text that the role reads; without one, quantisers that need it become RTN.
        """
        wanted = self
        if self is Quantizer.AUTO:
            wanted = Quantizer.AWQ_GPTQ if precision in ("int8", "int4") else Quantizer.GPTQ
        return wanted if has_text or not wanted.reads_text else Quantizer.RTN
