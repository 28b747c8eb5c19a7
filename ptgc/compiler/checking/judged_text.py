"""The text that builds are judged on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ptgc.compiler.checking.references import read_references, read_role_references
from ptgc.spec.bundle import Bundle
from ptgc.texts.sample_text import read_sample_text


def judged_text(bundle: Bundle, role: str, file: Path | None, longest: int) -> list[Sequence[int]]:
    """Sequences of two tokens or more for a role that is a language model on its own; may be empty.

    Args:
        bundle: The bundle.
        role: Name of the role.
        file: A text or prompts. None takes what PyTorch wrote at export; a drafter that has no texts of its own and
            shares the target's vocabulary takes the target's.
        longest: Most tokens of a sequence.

    Raises:
        UsageError: The file is unusable.
    """
    if file is not None:
        return list(read_sample_text(file, bundle, role, longest).sequences)
    if bundle.manifest.reference is None:
        return []
    drafter = bundle.manifest.plan.drafter
    shares = role in drafter.roles and not drafter.reencodes
    own = read_role_references(bundle, role)
    references = read_references(bundle) if own is None and (role == "target" or shares) else own
    texts = [text.context[:longest] for text in references.texts] if references is not None else []
    return [text for text in texts if len(text) > 1]
