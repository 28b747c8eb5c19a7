"""transformers as an engine of the benchmark."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from typing import Any

from ptgc.bench.engines.base import Written


class TransformersEngine:
    """A causal LM in PyTorch with transformers' own `generate`.

    Args:
        model: A Hugging Face directory.
        drafter: The directory of the assistant, or None.
        dtype: `float32`, `float16` or `bfloat16`.
        num_threads: Threads of PyTorch.
        num_draft_tokens: Draft tokens of a round of assisted generation.
        lookup_tokens: Draft tokens of a round of prompt lookup.
        lookup_ngram: Longest n-gram that prompt lookup searches for.
    """

    writes_on = True

    def __init__(
        self,
        model: str,
        drafter: str | None,
        dtype: str,
        num_threads: int,
        num_draft_tokens: int,
        lookup_tokens: int,
        lookup_ngram: int,
    ) -> None:
        import torch

        self._torch = torch
        torch.set_num_threads(num_threads)
        self._model = _load(model, dtype)
        self._settings: dict[str, dict[str, Any]] = {
            "plain": {},
            "prompt-lookup": {"prompt_lookup_num_tokens": lookup_tokens, "max_matching_ngram_size": lookup_ngram},
        }
        self._assistant: Any = None
        if drafter is not None:
            self._assistant = _load(drafter, dtype)
            self._settings["assisted"] = {}
            settings = self._assistant.generation_config
            settings.num_assistant_tokens = num_draft_tokens
            settings.num_assistant_tokens_schedule = "constant"
            settings.assistant_confidence_threshold = 0.0

    def generate(self, ids: Sequence[int], max_new_tokens: int, mode: str) -> Written:
        """Write one text: `plain`, `prompt-lookup`, or `assisted` if there is a drafter."""
        torch, rounds = self._torch, RoundStreamer()
        settings = {"max_new_tokens": max_new_tokens, "do_sample": False, "pad_token_id": 0, **self._settings[mode]}
        prompt = torch.tensor([list(ids)])
        start = time.perf_counter()
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about settings of the checkpoint itself
            found = self._model.generate(
                prompt,
                attention_mask=torch.ones_like(prompt),
                generation_config=_generation_config(**settings),
                assistant_model=self._assistant if mode == "assisted" else None,
                streamer=rounds,
            )
        end = time.perf_counter()
        return Written(
            token_ids=found[0, len(ids) :].tolist(),
            prefill_seconds=rounds.first_seconds - start,
            decode_seconds=end - rounds.first_seconds,
            decode_tokens=sum(rounds.emitted[1:]),
            rounds=len(rounds.emitted) - 1,
            accepted_tokens=sum(rounds.emitted) - len(rounds.emitted),
        )


class RoundStreamer:
    """Records the rounds: receives first the prompt, then the tokens of each round."""

    def __init__(self) -> None:
        self._heard_prompt = False
        self.emitted: list[int] = []
        self.first_seconds = 0.0

    def put(self, value: Any) -> None:
        """Take the tokens of a round."""
        if not self._heard_prompt:
            self._heard_prompt = True
            return
        if not self.emitted:
            self.first_seconds = time.perf_counter()
        self.emitted.append(int(value.numel()))

    def end(self) -> None:
        """End of the text."""


def _load(directory: str, dtype: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    # Uses transformers' default attention. The checkpoint is local, and its code is not run.
    model: Any = AutoModelForCausalLM.from_pretrained(
        directory, dtype=getattr(torch, dtype), local_files_only=True, use_safetensors=True
    )
    model.eval()
    model.generation_config = (
        _generation_config()
    )  # otherwise the checkpoint's settings would fill gaps, also its end token
    return model


def _generation_config(**values: Any) -> Any:
    from transformers import GenerationConfig

    make: Any = GenerationConfig  # untyped
    return make(**values)
