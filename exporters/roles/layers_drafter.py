"""The drafter role of models whose layers, one behind the other, draft a token each."""

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
from ptgc.exporters.tracing.rehearsal import Round, agree, round_mask, token_ids
from ptgc.exporters.tracing.trace import standard_operators
from ptgc.spec.drafter import LayersDrafter

_ADDED = (4, 3)  # rows that the text gains after the first round


def export_layers_drafter(model: PreTrainedModel, plan: LayersDrafter) -> TracedRole:
    """Trace a drafter with a layer for each draft.

    Raises:
        ExportError: It has another number of layers, cannot become a standard graph, or gives other logits when its
            text comes in rounds.
    """
    count = int(model.config.num_hidden_layers)
    if count != plan.num_layers:
        raise ExportError(f"The drafter has {count} layers; the plan says {plan.num_layers}.", "Change the plan.")
    _rehearse(model, plan)
    return trace_target(model)


@torch.no_grad()
def _rehearse(model: PreTrainedModel, plan: LayersDrafter) -> None:
    """Read a short text in rounds, each with the last rows of the one before; the drafts must be those of one run.

    Raises:
        ExportError: They are not.
    """
    rows = [plan.rows_at_once, *(plan.rows_read_again + added for added in _ADDED)]
    total = plan.rows_at_once + sum(_ADDED)
    ids = torch.tensor([token_ids(model, total, 0)])
    layers, states = probe_layers(model), stand_in_states(model, ids)
    whole = model(input_ids=ids, use_cache=False, **states).logits[0]
    if not agree(_in_rounds(model, layers, rows, ids, states["hidden_states"]), whole):
        raise ExportError(
            f"{type(model).__name__} cannot be exported: with a text read in rounds over a cache, it does not draft "
            "what it drafts behind the whole text.",
            REFUSED,
        )


def _in_rounds(
    model: PreTrainedModel, layers: Sequence[LayerCall], rows: Sequence[int], ids: Tensor, states: Tensor
) -> Tensor:
    """Logits of the drafts of the last round, `[num_layers, vocab]`."""
    verify, windows = Verify(model, layers).eval(), windows_of(layers)
    capacity = ids.shape[1] + 2
    keys = [torch.zeros(1, one.kv_heads, capacity, one.head_dim, dtype=states.dtype) for one in layers]
    values = [cache.clone() for cache in keys]
    end, again, logits = 0, len(layers) - 1, states
    with standard_operators(model):
        for count in rows:
            start = max(end - again, 0)
            end = start + count
            given = Round(list(range(start, end)), torch.ones(count, count).tril().bool().tolist(), start, start, [])
            logits, keys, values, *_ = verify(
                ids[:, start:end],
                torch.tensor([given.positions]),
                [torch.tensor([start])] * len(windows),
                torch.full((1, len(layers)), count - 1),
                [round_mask(given, window, capacity) for window in windows],
                keys,
                values,
                states[:, start:end],
            )
    return logits[0]
