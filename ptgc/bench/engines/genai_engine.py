"""onnxruntime-genai as an engine of the benchmark."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ptgc.bench.engines.base import Written

NGRAM = {"ngram_size": 3, "max_draft_tokens": 4, "ngram_chained_lookup": True}
"""Settings of its own n-gram speculation."""
MAX_DRAFT_TOKENS = 16
"""The most that it allows."""


class GenaiEngine:
    """A folder written by onnxruntime-genai's model builder, or a pair of such folders.

    Args:
        folder: The folder with genai_config.json.
        num_threads: Threads of each of its engines.
        num_draft_tokens: Draft tokens of a round in mode `draft`.
    """

    writes_on = True

    def __init__(self, folder: str, num_threads: int, num_draft_tokens: int) -> None:
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        self._library: Any = import_module("onnxruntime_genai")
        self._options = {"ngram": NGRAM, "draft": {"max_draft_tokens": min(num_draft_tokens, MAX_DRAFT_TOKENS)}}
        config = self._library.Config(folder)
        config.clear_providers()
        described = json.loads((Path(folder) / "genai_config.json").read_text(encoding="utf-8"))["model"]
        threads = {"session_options": {"intra_op_num_threads": num_threads}}
        models = {name: threads for name in ("decoder", "draft") if name in described}
        config.overlay(json.dumps({"model": {"eos_token_id": stand_in_eos(Path(folder)), **models}}))
        self._model = self._library.Model(config)

    def generate(self, ids: Sequence[int], max_new_tokens: int, mode: str) -> Written:
        """Write one text: `plain`, `ngram`, or `draft` if the folder is a pair."""
        start = time.perf_counter()
        parameters = self._library.GeneratorParams(self._model)
        parameters.set_search_options(max_length=len(ids) + max_new_tokens, do_sample=False)
        if mode in self._options:
            parameters.set_speculative_options(**self._options[mode])
        generator = self._library.Generator(self._model, parameters)
        generator.append_tokens(list(ids))
        generator.generate_next_token()
        first = time.perf_counter()
        before = generator.get_speculative_stats()  # a first round with drafts buffers its further tokens
        resumed = time.perf_counter()
        while not generator.is_done():
            generator.generate_next_token()
        end = time.perf_counter()
        after = generator.get_speculative_stats()
        decoded = max_new_tokens - 1 - before["tokens_buffered"]
        return Written(
            token_ids=[int(token) for token in generator.get_sequence(0)[len(ids) :]],
            prefill_seconds=first - start,
            decode_seconds=end - resumed,
            decode_tokens=decoded,
            rounds=_steps(after) - _steps(before) if mode in self._options else decoded,
            drafted_tokens=after["draft_tokens_proposed"],
            accepted_tokens=after["draft_tokens_accepted"],
        )


def _steps(did: dict[str, Any]) -> int:
    """Rounds with drafts plus steps that fell back to one token."""
    return int(did["rounds"] + did["standard_fallback_steps"])


def stand_in_eos(folder: Path) -> int:
    """A token that no text contains, to be set as the end token: the last special token without a role."""
    model = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))["model"]
    roles: set[int] = set()
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = model.get(name)
        roles.update(value if isinstance(value, list) else [value])
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    special = [token["id"] for token in tokenizer.get("added_tokens", []) if token["special"]]
    return int(max((token for token in special if token not in roles), default=model["vocab_size"] - 1))
