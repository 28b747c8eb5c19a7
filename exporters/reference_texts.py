"""What the PyTorch original writes, kept in the bundle so that any later stage can be checked without torch."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel

from ptgc.spec.ports import TOP_K

PROMPTS = (
    "The capital of France is",
    "Once upon a time, there was a little girl named Lily. She liked to",
    "def fibonacci(n):\n    ",
    "Text generators that write several tokens in one step are fast when what they write is easy to foresee: code "
    "that is edited, a list that repeats its items, an answer that quotes the question. In this text the same words "
    "come back again and again, so that what follows is easy to foresee. The same words come back again and",
)
NEW_TOKENS = 32


def reference_texts(model: PreTrainedModel, tokenizer: Any | None) -> dict[str, Any]:
    """Greedy continuations of a few prompts with the largest logits of every step.

    Args:
        model: The original, eager and in eval mode.
        tokenizer: Its tokenizer, or None, where fixed token ids serve as prompts.

    Returns:
        `{"dtype", "prompts": [{"text", "prompt_ids", "token_ids", "top_ids", "top_logits"}]}`; `top_*` have one row of
        8 for each new token, logits descending. The margin between the first two says how firm a choice is.
    """
    context = int(getattr(model.config, "max_position_embeddings", 1024))
    found = []
    for text, ids in _prompts(tokenizer, int(model.config.get_text_config().vocab_size)):
        ids = ids[: max(1, context - NEW_TOKENS)]
        new_ids, logits = _greedy(model, ids)
        top = torch.topk(logits, TOP_K, dim=-1)
        found.append(
            {
                "text": text,
                "prompt_ids": ids,
                "token_ids": new_ids,
                "top_ids": top.indices.tolist(),
                "top_logits": [[round(value, 4) for value in row] for row in top.values.tolist()],
            }
        )
    return {"dtype": str(next(model.parameters()).dtype).removeprefix("torch."), "prompts": found}


def _prompts(tokenizer: Any | None, vocab_size: int) -> list[tuple[str | None, list[int]]]:
    if tokenizer is None:
        return [(None, [(37 * i + 11 * n) % vocab_size for i in range(n)]) for n in (5, 12, 40)]
    return [(text, list(tokenizer(text)["input_ids"])) for text in PROMPTS]


@torch.no_grad()
def _greedy(model: PreTrainedModel, ids: list[int]) -> tuple[list[int], torch.Tensor]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # generate warns about pad tokens, which one unpadded row does not need
        generate: Any = model.generate  # a mixin that transformers leaves untyped
        out = generate(
            torch.tensor([ids]),
            attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            generation_config=_greedy_config(model),
        )
    return out.sequences[0, len(ids) :].tolist(), torch.cat(list(out.logits)).float()


def _greedy_config(model: PreTrainedModel) -> Any:
    """Plain greedy decoding, whatever the checkpoint's own defaults are."""
    eos = eos_token_ids(model)
    make: Any = GenerationConfig  # untyped, too
    return make(
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        eos_token_id=list(eos) or None,
        pad_token_id=eos[0] if eos else 0,
        output_logits=True,
        return_dict_in_generate=True,
    )


def eos_token_ids(model: PreTrainedModel) -> tuple[int, ...]:
    """Every id that ends a text, of the generation settings or of the configuration."""
    settings = getattr(model, "generation_config", None)
    found = getattr(settings, "eos_token_id", None)
    if found is None:
        found = getattr(model.config, "eos_token_id", None)
    vocab_size = int(model.config.get_text_config().vocab_size)
    ids = [found] if isinstance(found, int) else list(found or ())
    return tuple(token for token in ids if 0 <= token < vocab_size)
