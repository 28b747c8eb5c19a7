"""Searches for layers that draft well without the others, on texts that the model writes itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ptgc.exporters.model_facts import context_of
from ptgc.exporters.references.original_roles import greedy_text
from ptgc.exporters.references.reference_texts import reference_prompts
from ptgc.exporters.roles.target import Verify
from ptgc.exporters.tracing.probe import LayerCall, probe_layers, windows_of
from ptgc.exporters.tracing.rehearsal import Round, round_mask
from ptgc.exporters.tracing.trace import standard_operators

Part = Callable[[PreTrainedModel, Sequence[int]], PreTrainedModel]
"""Makes a model of some layers of another."""

_NEW_TOKENS = 64  # of each text
_SHARES = (1 / 2, 5 / 8, 3 / 4)  # of a model's layers, if their number is left to the search
_TRIED = 4  # layers that are tried before one is left out, of those that were least missed before


@dataclass(frozen=True)
class _Text:
    """A text of the target, and what its layers keep of it."""

    ids: Tensor
    """Prompt and text, `[1, num_tokens]`."""
    first: int
    """The row that the first new token is drafted from."""
    keys: list[Tensor]
    """By layer, `[1, kv_heads, 2 * num_tokens, head_dim]`; the second half is free."""
    values: list[Tensor]
    """As keys."""


def search_layers(
    model: PreTrainedModel,
    tokenizer: object | None,
    counts: Sequence[int | None],
    part: Part,
    progress: Callable[[str], None],
) -> list[tuple[int, ...]]:
    """Leave out one layer after the other, each time the one without which the others draft best.

    SWIFT (Xia et al., arXiv 2410.06916, section 4.1) chooses by the same measure, the share of the target's own tokens
    that are drafted right, by random search. Layers that were hardly missed before are tried first, so that a search
    takes a few times as many runs as there are layers.

    Args:
        model: The target.
        tokenizer: Its tokenizer, for prompts.
        counts: How many layers to keep; None for a few numbers about half of them.
        part: Makes a model of some of its layers.
        progress: Called with each step.

    Returns:
        Layers for each count, in that order; those of smaller ones are among those of larger ones.
    """
    layers = probe_layers(model)
    wanted = _wanted(len(layers), counts)
    progress(f"Searching for layers that draft, on {_NEW_TOKENS} tokens of a few texts")
    texts = _texts(model, layers, tokenizer)
    kept = list(range(len(layers)))
    missed = {layer: (float("inf"), 0.0) for layer in kept}
    found: dict[int, tuple[int, ...]] = {}
    while len(kept) > min(wanted):
        tried = (
            kept if len(kept) == len(layers) else sorted(kept, key=lambda layer: missed[layer], reverse=True)[:_TRIED]
        )
        for layer in tried:
            rest = [one for one in kept if one != layer]
            missed[layer] = _drafted(part(model, rest), [layers[one] for one in rest], rest, texts)
        least = max(tried, key=lambda layer: missed[layer])
        kept.remove(least)
        found[len(kept)] = tuple(kept)
        progress(f"{len(kept)} of {len(layers)} layers: {missed[least][0]:.0%} drafted right, without layer {least}")
    return [found[count] for count in wanted]


def _wanted(total: int, counts: Sequence[int | None]) -> list[int]:
    """The numbers of layers to keep, each once."""
    found: list[int] = []
    for count in counts:
        found += [count] if count else [min(max(round(total * share), 1), total - 1) for share in _SHARES]
    return list(dict.fromkeys(found))


def _texts(model: PreTrainedModel, layers: Sequence[LayerCall], tokenizer: object | None) -> list[_Text]:
    """What the model writes, greedily, and its cache of it."""
    context = context_of(model) or _NEW_TOKENS
    found = []
    for _, prompt in reference_prompts(tokenizer, int(model.config.get_text_config().vocab_size)):
        ids = prompt[: max(1, context - _NEW_TOKENS)]
        ids_written, _ = greedy_text(model, ids, max(1, min(_NEW_TOKENS, context - len(ids))))
        text = torch.tensor([[*ids, *ids_written]])
        empty = [
            torch.zeros(1, one.kv_heads, 2 * text.shape[1], one.head_dim, dtype=next(model.parameters()).dtype)
            for one in layers
        ]
        _, keys, values = _read(model, layers, text, empty, empty, behind=0)
        found.append(_Text(text, len(ids) - 1, keys, values))
    return found


def _drafted(
    model: PreTrainedModel, layers: Sequence[LayerCall], kept: Sequence[int], texts: Sequence[_Text]
) -> tuple[float, float]:
    """The share of tokens that these layers draft right over the target's cache, and their mean log-probability."""
    right = likely = count = 0.0
    for text in texts:
        keys, values = ([given[layer] for layer in kept] for given in (text.keys, text.values))
        logits, _, _ = _read(model, layers, text.ids, keys, values, behind=text.ids.shape[1])
        drafts, written = logits[0, text.first : -1].float(), text.ids[0, text.first + 1 :]
        right += float((drafts.argmax(-1) == written).sum())
        likely += float(drafts.log_softmax(-1).gather(-1, written[:, None]).sum())
        count += len(written)
    return right / max(count, 1), likely / max(count, 1)


@torch.no_grad()
def _read(
    model: PreTrainedModel,
    layers: Sequence[LayerCall],
    ids: Tensor,
    keys: Sequence[Tensor],
    values: Sequence[Tensor],
    behind: int,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Logits of every row, and the caches.

    With `behind` slots before them, rows see what is there of the tokens before them, and of their round only
    themselves: each is the first draft of a round after the text up to it.

    ```
              0 1 2 | 3 4 5   slots, behind = 3
        row 0       | x
        row 1 x     |   x
        row 2 x x   |     x
    ```
    """
    count = ids.shape[1]
    masks = []
    for window in windows_of(layers):
        one = round_mask(Round([*range(count)], _causal(count), 0, 0, []), window, keys[0].shape[2])
        if behind:
            before = one & ~torch.eye(count, one.shape[-1], dtype=torch.bool)
            one = before | torch.eye(one.shape[-1], dtype=torch.bool)[behind : behind + count]
        masks.append(one)
    rows = torch.arange(count)[None]
    with standard_operators(model):
        slots = [torch.tensor([behind])] * len(masks)
        logits, new_keys, new_values, *_ = Verify(model, layers)(
            ids, rows, slots, rows, masks, list(keys), list(values)
        )
    return logits, new_keys, new_values


def _causal(count: int) -> list[list[bool]]:
    return [[slot <= row for slot in range(count)] for row in range(count)]
