"""Packed: what `ptgc pack` left out of a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Packed:
    """What `ptgc pack` left out."""

    bundle_sha256: str
    """Digest of the manifest of the bundle that it was packed from."""
    dropped: tuple[str, ...]
    """Files of that bundle that are not here."""

    def to_json(self) -> dict[str, Any]:
        """As the manifest writes it."""
        return {"bundle_sha256": self.bundle_sha256, "dropped": list(self.dropped)}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Packed:
        """From the manifest's form."""
        return Packed(data["bundle_sha256"], tuple(data["dropped"]))
