"""Reference texts of every loop, written by PyTorch, so that any later stage can be checked without torch."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from ptgc.errors import ExportError
from ptgc.exporters.model_facts import context_of, start_token_id
from ptgc.exporters.references.original_roles import original_roles, translate
from ptgc.exporters.references.reference_texts import NEW_TOKENS, PROMPTS, largest_logits, reference_texts
from ptgc.graphs.canvas.reference_loop import first_round
from ptgc.graphs.reference_loops import write
from ptgc.spec import ports
from ptgc.spec.canvas import CanvasCache
from ptgc.spec.edit import EditStart
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan

_LENGTHS = (5, 12, 40)  # lengths of prompts made of token ids
_SPELLED_SHARE = 0.8  # share of a text's letters; a tokenizer that loses more is for another language
_MASKED = 3  # every third position of a canvas is to be filled
_CANVAS = 256  # tokens, if a model does not state its context

Roles = Mapping[str, nn.Module]
Texts = list[dict[str, Any]]


def reference_of(roles: Roles, plan: DecodePlan, tokenizer: Any | None) -> dict[str, Any]:
    """The content of the bundle's reference file: `{"dtype", "prompts": [{"text", "prompt_ids", "token_ids", ...}]}`.

    - speculative: see `reference_texts`; for an encoder-decoder with `source_ids`, and the start token as the prompt.
    - canvas: `prompt_ids` is the canvas with its masks, `token_ids` the filled canvas after `rounds` rounds; if rounds
      read the whole canvas, `confidence` is that of every position before the first round.
    - one-shot: `source_ids`, and the `token_ids` of the one run.
    - edit: `source_ids`, or without an encoder `prompt_ids`; `token_ids`, the text after `rounds` rounds; `largest`,
      the largest canvas on the way.
    """
    if plan.loop is Loop.CANVAS:
        return _document(roles["denoiser"], _canvases(roles, plan, tokenizer))
    if plan.loop is Loop.ONE_SHOT:
        return _document(roles["decoder"], _runs(roles, plan, tokenizer))
    if plan.edit is not None:
        return _document(roles[plan.edit.operations[-1]], _edits(roles, plan, tokenizer))
    target = pretrained(roles, "target")
    if target.config.is_encoder_decoder:
        return _document(target, _translations(target, tokenizer))
    return reference_texts(target, tokenizer)


def pretrained(roles: Roles, name: str) -> PreTrainedModel:
    """A role's module, which must be a transformers model.

    Raises:
        ExportError: It is not.
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


def _canvases(roles: Roles, plan: DecodePlan, tokenizer: Any | None) -> Texts:
    assert plan.canvas is not None
    denoiser = roles["denoiser"]
    found, mask, run = [], plan.canvas.mask_token_id, original_roles(roles, plan)
    for text, ids in _prompts(denoiser, tokenizer, exclude=(mask,)):
        inner = range(1, len(ids) - 1)  # not the tokens that the tokenizer puts around a text
        canvas = [mask if t in inner and t % _MASKED == 0 else token for t, token in enumerate(ids)]
        made = write(run, plan, canvas, len(canvas))
        found.append({"text": text, "prompt_ids": canvas, "token_ids": made.token_ids, "rounds": made.rounds})
        if plan.canvas.cache is CanvasCache.NONE:
            confidence = run["denoiser"](first_round(plan.canvas, canvas, fills=0))[ports.CONFIDENCE.name][0]
            found[-1]["confidence"] = [round(value, 5) for value in confidence.tolist()]
    return found


def _runs(roles: Roles, plan: DecodePlan, tokenizer: Any | None) -> Texts:
    found, run = [], original_roles(roles, plan)
    for text, source in _prompts(roles["encoder"], tokenizer):
        ids = write(run, plan, source, 0).token_ids
        found.append({"text": text, "source_ids": source, "prompt_ids": [], "token_ids": ids})
    return found


def _edits(roles: Roles, plan: DecodePlan, tokenizer: Any | None) -> Texts:
    assert plan.edit is not None
    found, run = [], original_roles(roles, plan)
    reader = roles.get("encoder", roles[plan.edit.operations[0]])
    longest = context_of(roles[plan.edit.operations[-1]]) or _CANVAS
    frame = plan.edit.special_tokens.values() if plan.edit.start is EditStart.SOURCE else ()
    for text, given in _prompts(reader, tokenizer, exclude=frame, most=longest - len(plan.edit.first_canvas(()))):
        made = write(run, plan, given, longest)
        ids = {"source_ids": given, "prompt_ids": []} if "encoder" in roles else {"prompt_ids": given}
        counts = {"rounds": made.rounds, "largest": made.largest}
        found.append({"text": text, **ids, "token_ids": made.token_ids, **counts})
    return found


def _translations(model: PreTrainedModel, tokenizer: Any | None) -> Texts:
    found = []
    for text, source in _prompts(model, tokenizer):
        ids, logits = translate(model, source, min(NEW_TOKENS, (context_of(model) or _CANVAS) - 1))
        begun = {"text": text, "source_ids": source, "prompt_ids": [start_token_id(model)], "token_ids": ids}
        found.append(begun | largest_logits(logits))
    return found


def _prompts(
    module: nn.Module, tokenizer: Any | None, exclude: Collection[int] = (), most: int | None = None
) -> list[tuple[str | None, list[int]]]:
    """The prompts as tokens, or plain token ids if the tokenizer is for another language."""
    context = context_of(module) or _CANVAS
    context = context if most is None else min(context, most)
    if tokenizer is not None and all(_spells(tokenizer, text) for text in PROMPTS):
        return [(text, list(tokenizer(text)["input_ids"])[:context]) for text in PROMPTS]
    special = {*exclude, *getattr(tokenizer, "all_special_ids", ())}
    usable = [token for token in range(_source_vocab_size(module)) if token not in special]
    return [(None, [usable[(37 * i + 11 * n) % len(usable)] for i in range(min(n, context))]) for n in _LENGTHS]


def _spells(tokenizer: Any, text: str) -> bool:
    """Whether a text survives encoding and decoding, mostly, apart from spaces."""
    ids = list(tokenizer(text)["input_ids"])
    kept = "".join(tokenizer.decode(ids, skip_special_tokens=True).split())
    return tokenizer.unk_token_id not in ids and len(kept) >= _SPELLED_SHARE * len("".join(text.split()))


def _source_vocab_size(module: nn.Module) -> int:
    """Size of the vocabulary that a module reads: from its configuration, or from its embedding table."""
    config = getattr(module, "config", None)
    for name in ("source_vocab_size", "vocab_size"):
        if isinstance(size := getattr(config, name, None), int):
            return size
    tables = [one.num_embeddings for one in module.modules() if isinstance(one, nn.Embedding)]
    return tables[0]
