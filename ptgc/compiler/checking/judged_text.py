"""The text that builds are judged on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ptgc.compiler.checking.references import read_references, read_role_references
from ptgc.spec.bundle import Bundle
from ptgc.texts.sample_text import read_sample_text


def judged_text(bundle: Bundle, role: str, file: Path | None, longest: int) -> list[Sequence[int]]:
    """Sequences of two tokens or more, for a role that writes alone; none where there are none.

    Args:
        bundle: Whose role.
        role: Its name.
        file: A text or prompts; None takes what PyTorch wrote at export; for a drafter with the target's vocabulary
            what the target wrote.
        longest: Tokens that a build holds.

    Raises:
        UsageError: The file says nothing.
    """
    if file is not None:
        return list(read_sample_text(file, bundle, role, longest).sequences)
    if bundle.manifest.reference is None:
        return []
    shares = role == "drafter" and not bundle.manifest.plan.drafter.reencodes
    own = read_role_references(bundle, role)
    references = read_references(bundle) if own is None and (role == "target" or shares) else own
    texts = [text.context[:longest] for text in references.texts] if references is not None else []
    return [text for text in texts if len(text) > 1]
