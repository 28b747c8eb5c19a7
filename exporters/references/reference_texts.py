"""Texts of the PyTorch original, kept in the bundle so that any later stage can be checked without torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel

from ptgc.exporters.model_facts import context_of
from ptgc.exporters.references.original_roles import greedy_text
from ptgc.spec.reference import TOP_K

PROMPTS = (
    "The capital of France is",
    "Once upon a time, there was a little girl named Lily. She liked to",
    "def fibonacci(n):\n    ",
    "Text generators that write several tokens in one step are fast when what they write is easy to foresee: code "
    "that is edited, a list that repeats its items, an answer that quotes the question. In this text the same words "
    "come back again and again, so that what follows is easy to foresee. The same words come back again and",
)
NEW_TOKENS = 32
_CONTEXT = 1024  # tokens, if a model does not state its context


def reference_texts(model: PreTrainedModel, tokenizer: Any | None) -> dict[str, Any]:
    """Greedy continuations of a few prompts, with the largest logits of every step.

    Args:
        model: The original, eager and in eval mode.
        tokenizer: Its tokenizer; if None, fixed token ids serve as prompts.

    Returns:
        `{"dtype", "prompts": [{"text", "prompt_ids", "token_ids", "top_ids", "top_logits"}]}`; `top_*` have one row of
        8 for each new token, logits descending. The margin between the first two shows how firm a choice is.
    """
    context = context_of(model) or _CONTEXT
    found = []
    for text, ids in reference_prompts(tokenizer, int(model.config.get_text_config().vocab_size)):
        ids = ids[: max(1, context - NEW_TOKENS)]
        new_ids, logits = greedy_text(model, ids, max(1, min(NEW_TOKENS, context - len(ids))))
        found.append({"text": text, "prompt_ids": ids, "token_ids": new_ids} | largest_logits(logits))
    return {"dtype": str(next(model.parameters()).dtype).removeprefix("torch."), "prompts": found}


def largest_logits(logits: NDArray[np.float32]) -> dict[str, Any]:
    """`{"top_ids", "top_logits"}` of every new token."""
    top = torch.topk(torch.from_numpy(logits), TOP_K, dim=-1)
    return {
        "top_ids": top.indices.tolist(),
        "top_logits": [[round(value, 4) for value in row] for row in top.values.tolist()],
    }


def reference_prompts(tokenizer: Any | None, vocab_size: int) -> list[tuple[str | None, list[int]]]:
    """Texts with their tokens; without a tokenizer, tokens alone."""
    if tokenizer is None:
        return [(None, [(37 * i + 11 * n) % vocab_size for i in range(n)]) for n in (5, 12, 40)]
    return [(text, list(tokenizer(text)["input_ids"])) for text in PROMPTS]
