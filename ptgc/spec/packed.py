"""Packed: what `ptgc pack` left out of a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from ptgc.spec.fields import Count, Sha256
from ptgc.spec.limits import MAX_ENTRIES


@dataclass(frozen=True)
class Packed:
    """What `ptgc pack` left out."""

    bundle_sha256: Sha256
    """Digest of the manifest of the bundle that it was packed from."""
    dropped: Annotated[tuple[str, ...], Count(0, MAX_ENTRIES)]
    """Files of that bundle that are not here."""

    def to_json(self) -> dict[str, Any]:
        """This as the manifest writes it."""
        return {"bundle_sha256": self.bundle_sha256, "dropped": list(self.dropped)}
