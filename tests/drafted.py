"""Texts of the tiny llama with every draft verified, round by round."""

from __future__ import annotations

from pathlib import Path

from ptgc.runtime import GenerationResult, Generator
from tests.models import greedy, tiny_model


def drafted(path: Path, ids: list[int], count: int = 40, build: str | None = None) -> GenerationResult:
    """A text, its rounds included, that must be the target's own; by default of the newest build."""
    with Generator(path, build=build, draft_length="fixed") as generator:
        result = generator.generate(ids, max_new_tokens=count, trace=True)
    assert result.token_ids == greedy(tiny_model("llama"), ids, count)
    return result
