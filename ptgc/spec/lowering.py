"""Lowering: which operators a prepared graph may use."""

from __future__ import annotations

from enum import Enum


class Lowering(str, Enum):
    """Which operators a prepared graph may have."""

    NATIVE = "native"
    """Those that run fastest on the newest version of the engine library; on a CPU, ptgc's own among them."""
    VENDOR_PRODUCTS = "vendor-products"
    """As native, but quantised matrices are multiplied by the engine library's own operators."""
    PORTABLE = "portable"
    """Opset 20 at most, for older versions: attention, cache updates, norms and rotary embeddings are written out."""
