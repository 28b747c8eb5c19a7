"""The drafter role of models that fill a block of mask tokens, over states of the text."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import PreTrainedModel

from ptgc.errors import ExportError
from ptgc.exporters.modules.tap import stand_in_states
from ptgc.exporters.roles.base import TracedRole
from ptgc.exporters.roles.target import Verify, trace_target
from ptgc.exporters.tracing.probe import REFUSED, LayerCall, probe_layers, windows_of
from ptgc.exporters.tracing.rehearsal import Round, agree, block_masks, round_mask, token_ids
from ptgc.exporters.tracing.trace import standard_operators
from ptgc.spec.attention import AttentionKind

_CONTEXT = (4, 3)  # context rows of each round
_BLOCK = 3


def export_block_drafter(model: PreTrainedModel) -> TracedRole:
    """Trace a drafter of blocks.

    Raises:
        ExportError: It cannot become a standard graph, or gives other logits when its context comes in rounds.
    """
    _rehearse_context(model)
    return trace_target(model, AttentionKind.BLOCK)


@torch.no_grad()
def _rehearse_context(model: PreTrainedModel) -> None:
    """Read the states of a short text in rounds, each with a block; the last one's logits must be those of one run.

    Raises:
        ExportError: They are not.
    """
    total = sum(_CONTEXT) + _BLOCK
    ids = torch.tensor([token_ids(model, total, 0)])
    is_context = torch.arange(total)[None] < sum(_CONTEXT)
    layers, states = probe_layers(model), stand_in_states(model, ids)
    masks = block_masks(model, layers, [_round(0, total)])
    whole = model(input_ids=ids, is_context=is_context, attention_mask=masks, use_cache=False, **states).logits[0]
    if not agree(_in_rounds(model, layers, ids, states["hidden_states"]), whole[sum(_CONTEXT) :]):
        raise ExportError(
            f"{type(model).__name__} cannot be exported: with its context read in rounds over a cache, it does not "
            "draft what it drafts over the whole context.",
            REFUSED,
        )


def _round(start: int, count: int) -> Round:
    """Rows that all see each other and everything before them."""
    return Round(list(range(start, start + count)), [[True] * count] * count, start, start, [])


def _in_rounds(model: PreTrainedModel, layers: Sequence[LayerCall], ids: Tensor, states: Tensor) -> Tensor:
    """Logits of the block after the last round, `[rows, vocab]`."""
    verify, windows = Verify(model, layers).eval(), windows_of(layers)
    capacity = ids.shape[1] + 2
    keys = [torch.zeros(1, one.kv_heads, capacity, one.head_dim, dtype=states.dtype) for one in layers]
    values = [cache.clone() for cache in keys]
    start, logits = 0, states
    with standard_operators(model):
        for number in _CONTEXT:
            given, end = _round(start, number + _BLOCK), start + number + _BLOCK
            logits, keys, values, *_ = verify(
                ids[:, start:end],
                torch.tensor([given.positions]),
                [torch.tensor([start])] * len(windows),
                torch.arange(number, given.count)[None],
                [round_mask(given, window, capacity) for window in windows],
                keys,
                values,
                states[:, start:end],
            )
            start += number
    return logits[0]
