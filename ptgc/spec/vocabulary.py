"""Vocabularies: which token stands for which id."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping


def vocabulary_sha256(ids: Mapping[str, int]) -> str:
    """A digest by which tokens of different tokenizers are told apart.

    Args:
        ids: The id of every token, added ones included.
    """
    entries = sorted((token_id, token) for token, token_id in ids.items())
    return hashlib.sha256(json.dumps(entries).encode()).hexdigest()
