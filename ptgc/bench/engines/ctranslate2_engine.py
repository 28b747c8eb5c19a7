"""CTranslate2 as an engine of the benchmark."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ptgc.bench.engines.base import Written
from ptgc.bench.engines.rounds import Rounds


class Ctranslate2Engine:
    """A folder written by CTranslate2's converter.

    Args:
        folder: The folder with model.bin.
        precision: Precision of the weights, in its names too.
        num_threads: Threads.
    """

    writes_on = True

    def __init__(self, folder: str, precision: str, num_threads: int) -> None:
        library: Any = import_module("ctranslate2")
        self._tokens = json.loads((Path(folder) / "vocabulary.json").read_text(encoding="utf-8"))
        self._generator = library.Generator(
            folder, device="cpu", compute_type=precision, inter_threads=1, intra_threads=num_threads
        )

    def generate(self, ids: Sequence[int], max_new_tokens: int, mode: str) -> Written:  # noqa: ARG002
        """Write one text; the only mode is `plain`."""
        prompt = [self._tokens[token] for token in ids]  # it takes tokens by their texts
        rounds = Rounds()

        def on_token(_: Any) -> bool:
            rounds.add(1)
            return False

        (found,) = self._generator.generate_batch(
            [prompt],
            max_length=max_new_tokens,
            end_token=[],
            sampling_topk=1,
            include_prompt_in_result=False,  # the prompt is computed at once
            callback=on_token,
        )
        return rounds.written(found.sequences_ids[0])
