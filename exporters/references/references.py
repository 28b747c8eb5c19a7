"""Reference texts of every loop: what PyTorch wrote, so that any later stage can be checked without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from ptgc.errors import ExportError
from ptgc.exporters.model_facts import context_of, start_token_id
from ptgc.exporters.references.reference_loops import edit_text, fill_canvas, read_rows, translate
from ptgc.exporters.references.reference_texts import NEW_TOKENS, PROMPTS, reference_texts
from ptgc.exporters.roles.denoiser import denoise
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan
from ptgc.spec.reference import TOP_K

_LENGTHS = (5, 12, 40)  # of prompts made of token ids
_SPELLED_SHARE = 0.8  # of a text's letters; a tokenizer that loses more is of another language
_MASKED = 3  # every third position of a canvas is to be filled
_CANVAS = 256  # tokens, where a model does not say how many it was made for

Roles = Mapping[str, nn.Module]
Texts = list[dict[str, Any]]


def reference_of(roles: Roles, plan: DecodePlan, tokenizer: Any | None) -> dict[str, Any]:
    """What the bundle's reference file holds: `{"dtype", "prompts": [{"text", "prompt_ids", "token_ids", ...}]}`.

    - speculative: see `reference_texts`; of an encoder-decoder with `source_ids`, and its start as the prompt.
    - canvas: `prompt_ids` is the canvas with its masks, `token_ids` the same filled, in `rounds`; `confidence` is that
      of every position before the first.
    - one-shot: `source_ids` and the `token_ids` read off the run.
    - edit: `source_ids`, and `prompt_ids`, the canvas at first, which became `token_ids` in `rounds` and had `largest`
      tokens at most.
    """
    if plan.loop is Loop.CANVAS:
        return _document(roles["denoiser"], _canvases(roles["denoiser"], plan, tokenizer))
    if plan.loop is Loop.ONE_SHOT:
        return _document(roles["decoder"], _runs(roles, plan, tokenizer))
    if plan.loop is Loop.EDIT:
        return _document(roles["filler"], _edits(roles, plan, tokenizer))
    target = pretrained(roles, "target")
    if target.config.is_encoder_decoder:
        return _document(target, _translations(target, tokenizer))
    return reference_texts(target, tokenizer)


def pretrained(roles: Roles, name: str) -> PreTrainedModel:
    """A role's module, where it must be one of transformers.

    Raises:
        ExportError: It is another module.
    """
    module = roles[name]
    if not isinstance(module, PreTrainedModel):
        raise ExportError(
            f"The role '{name}' is a {type(module).__name__}; it must be a model of transformers, which its cache and "
            "its attention are traced through.",
            "docs/adding-a-model.md says what other roles may be.",
        )
    return module


def _document(module: nn.Module, texts: Texts) -> dict[str, Any]:
    return {"dtype": str(next(module.parameters()).dtype).removeprefix("torch."), "prompts": texts}


def _canvases(denoiser: nn.Module, plan: DecodePlan, tokenizer: Any | None) -> Texts:
    assert plan.canvas is not None
    found, mask = [], plan.canvas.mask_token_id
    for text, ids in _prompts(denoiser, tokenizer, exclude=mask):
        inner = range(1, len(ids) - 1)  # not what the tokenizer puts around a text
        canvas = [mask if t in inner and t % _MASKED == 0 else token for t, token in enumerate(ids)]
        filled, rounds = fill_canvas(denoiser, canvas, plan.canvas)
        confidence = _confidence(denoiser, canvas, mask)
        found.append(
            {"text": text, "prompt_ids": canvas, "token_ids": filled, "rounds": rounds, "confidence": confidence}
        )
    return found


@torch.no_grad()
def _confidence(denoiser: nn.Module, canvas: list[int], mask_token_id: int) -> list[float]:
    logits = denoise(denoiser, torch.tensor([canvas]), torch.tensor([len(canvas)]))[0].float()
    logits[:, mask_token_id] = -torch.inf
    return [round(value, 5) for value in logits.softmax(-1).amax(-1).tolist()]


def _runs(roles: Roles, plan: DecodePlan, tokenizer: Any | None) -> Texts:
    assert plan.one_shot is not None
    found = []
    for text, source in _prompts(roles["encoder"], tokenizer):
        ids = read_rows(roles["encoder"], roles["decoder"], source, plan.one_shot)
        found.append({"text": text, "source_ids": source, "prompt_ids": [], "token_ids": ids})
    return found


def _edits(roles: Roles, plan: DecodePlan, tokenizer: Any | None) -> Texts:
    assert plan.edit is not None
    found, empty = [], [plan.edit.bos_token_id, plan.edit.eos_token_id]
    for text, source in _prompts(roles["encoder"], tokenizer):
        made = edit_text(roles, source, empty, plan.edit, context_of(roles["filler"]) or _CANVAS)
        counts = {"rounds": made.rounds, "largest": made.largest}
        found.append({"text": text, "source_ids": source, "prompt_ids": empty, "token_ids": made.ids} | counts)
    return found


def _translations(model: PreTrainedModel, tokenizer: Any | None) -> Texts:
    found = []
    for text, source in _prompts(model, tokenizer):
        ids, logits = translate(model, source, min(NEW_TOKENS, (context_of(model) or _CANVAS) - 1))
        top = torch.topk(logits, TOP_K, dim=-1)
        found.append(
            {
                "text": text,
                "source_ids": source,
                "prompt_ids": [start_token_id(model)],
                "token_ids": ids,
                "top_ids": top.indices.tolist(),
                "top_logits": [[round(value, 4) for value in row] for row in top.values.tolist()],
            }
        )
    return found


def _prompts(
    module: nn.Module, tokenizer: Any | None, exclude: int | None = None
) -> list[tuple[str | None, list[int]]]:
    """Texts of the tokenizer's language, or token ids where that is another one than ours."""
    context = context_of(module) or _CANVAS
    if tokenizer is not None and all(_spells(tokenizer, text) for text in PROMPTS):
        return [(text, list(tokenizer(text)["input_ids"])[:context]) for text in PROMPTS]
    special = {exclude, *getattr(tokenizer, "all_special_ids", ())}
    usable = [token for token in range(_source_vocab_size(module)) if token not in special]
    return [(None, [usable[(37 * i + 11 * n) % len(usable)] for i in range(min(n, context))]) for n in _LENGTHS]


def _spells(tokenizer: Any, text: str) -> bool:
    """Whether a text survives its tokens, spaces and case apart."""
    ids = list(tokenizer(text)["input_ids"])
    kept = "".join(tokenizer.decode(ids, skip_special_tokens=True).split())
    return tokenizer.unk_token_id not in ids and len(kept) >= _SPELLED_SHARE * len("".join(text.split()))


def _source_vocab_size(module: nn.Module) -> int:
    """Tokens that a module reads: its configuration's, or as many as its table of tokens has."""
    config = getattr(module, "config", None)
    for name in ("source_vocab_size", "vocab_size"):
        if isinstance(size := getattr(config, name, None), int):
            return size
    tables = [one.num_embeddings for one in module.modules() if isinstance(one, nn.Embedding)]
    return tables[0]
