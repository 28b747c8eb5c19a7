"""llama.cpp as an engine of the benchmark, through llama-cpp-python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from itertools import islice
from typing import Any

import numpy as np

from ptgc.bench.engines.base import Written
from ptgc.bench.engines.rounds import Rounds

GREEDY = {"temp": 0.0, "repeat_penalty": 1.0}


class LlamaCppEngine:
    """A GGUF file, loaded for one mode.

    Args:
        file: The file.
        num_threads: Threads, for prompts and for decoding.
        max_length: Tokens that the cache holds.
        cache_type: Name of the cache's type in the library.
        lookup: Settings of `LlamaPromptLookupDecoding`; None decodes plainly. With it, the library computes the logits
            of all tokens, also of prompts.
    """

    writes_on = True

    def __init__(
        self, file: str, num_threads: int, max_length: int, cache_type: str, lookup: Mapping[str, int] | None
    ) -> None:
        library: Any = import_module("llama_cpp")
        self._lookup = None
        if lookup is not None:
            speculative: Any = import_module("llama_cpp.llama_speculative")
            self._lookup = CountedDrafts(speculative.LlamaPromptLookupDecoding(**lookup))
        kind = getattr(library, cache_type)
        self._model = library.Llama(
            file,
            n_ctx=max_length,
            n_threads=num_threads,
            n_threads_batch=num_threads,
            type_k=kind,
            type_v=kind,
            logits_all=False,
            draft_model=self._lookup,
            verbose=False,
        )

    def generate(self, ids: Sequence[int], max_new_tokens: int, mode: str) -> Written:  # noqa: ARG002
        """Write one text in the engine's mode."""
        self._model.reset()  # otherwise what the last prompt has in common with this one is not computed again
        drafts = self._lookup
        if drafts is not None:
            drafts.clear()
        token_ids: list[int] = []
        rounds = Rounds()
        for token in islice(self._model.generate(list(ids), **GREEDY), max_new_tokens):
            token_ids.append(int(token))
            if drafts is None or len(drafts.counts) == rounds.count:  # otherwise it was computed with the last one
                rounds.add(1)
        return rounds.written(token_ids, drafted=sum(drafts.counts) if drafts is not None else 0)


class CountedDrafts:
    """A draft model of the library that records how many tokens it drafts; it is called once before each round."""

    def __init__(self, drafts: Any) -> None:
        self._drafts = drafts
        self.counts: list[int] = []

    def clear(self) -> None:
        """Forget the rounds of the last text."""
        self.counts.clear()

    def __call__(self, input_ids: np.ndarray, /, **settings: Any) -> np.ndarray:
        """Draft, and record how much."""
        found: np.ndarray = self._drafts(input_ids, **settings)
        self.counts.append(len(found))
        return found
