"""The texts that a bundle is checked with: those of its main model, and of other language models in it."""

from __future__ import annotations

from pathlib import PurePosixPath

from ptgc.errors import BundleError
from ptgc.spec.bundle import Bundle
from ptgc.spec.reference import References, read_reference_file


def read_references(bundle: Bundle) -> References:
    """The reference texts of the whole bundle.

    Raises:
        BundleError: They were left out when the bundle was packed, or it never had any.
    """
    if bundle.manifest.reference is None:
        if bundle.manifest.packed is None:
            raise BundleError(f"{bundle.path} has no reference texts to check with.", "Export the bundle again.")
        raise BundleError(
            f"Checking needs the reference texts, which `ptgc pack` left out of {bundle.path}.",
            "Check the bundle that it was packed from, or pack that again with --keep-references.",
        )
    return read_reference_file(bundle, bundle.manifest.reference)


def read_role_references(bundle: Bundle, role: str) -> References | None:
    """The reference texts of one role on its own (`reference/ROLE.json`); None if the bundle has none."""
    main = bundle.manifest.reference
    own = str(PurePosixPath(main).with_name(f"{role}.json")) if main else None
    if own is None or not bundle.lists(own):
        return None
    references = read_reference_file(bundle, own)
    return references if references.has_logits else None
