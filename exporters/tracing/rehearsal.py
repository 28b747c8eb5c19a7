"""Trying, before a model is traced, whether its text survives being read in rounds over a cache of our own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ptgc.errors import ExportError
from ptgc.exporters.tracing.probe import REFUSED, LayerCall, windows_of
from ptgc.exporters.tracing.trace import standard_operators
from ptgc.graphs.reference import full_mask, window_mask
from ptgc.spec.tree import TreeSpec

_PREFIX = 6  # tokens of the first round
# The second round is a tree whose first branch is the text, and whose other rows are in its way.
_TREE = TreeSpec((-1, 0, 0, 1, 2, 3, 3, 5, 7))
_PATH = (0, 1, 3, 5, 7, 8)
_TOLERANCE = {torch.float32: 2e-3, torch.float16: 0.05, torch.bfloat16: 0.2}  # of the logits' own size


@dataclass(frozen=True)
class Round:
    """What one round brings, for one sequence."""

    input_ids: Tensor  # int64 [1, num_tokens]
    position_ids: Tensor  # int64 [1, num_tokens]
    tree_mask: np.ndarray  # bool [1, num_tokens, num_tokens]
    start: int  # the slot of the first row


Verify = Callable[..., tuple[Tensor, list[Tensor], list[Tensor]]]
"""See `ptgc.exporters.roles.target.Verify.forward`."""


def rehearse(verify: Verify, model: PreTrainedModel, layers: Sequence[LayerCall]) -> None:
    """Read a short text in two rounds, a chain and a tree that holds the rest of it between other rows.

    Logits must be those of the model on the whole text. What breaks this cannot be verified in rounds: recurrent
    states, caches that layers share, positions that follow the order of the rows, attention that looks elsewhere.

    Args:
        verify: The model over caches of its own.
        model: The model.
        layers: How its layers attend.

    Raises:
        ExportError: Naming the first module that gives something else.
    """
    ids = _token_ids(model)
    text = [*ids[:_PREFIX], *(ids[_PREFIX + node] for node in _PATH)]
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([text]), use_cache=False).logits[0]
        found = _in_rounds(verify, model, layers, ids)
        if _agree(found, expected):
            return
        part = _first_difference(verify, model, layers, ids, text)
    raise ExportError(
        f"{type(model).__name__} cannot be exported: read in rounds over a cache, {part} does not give what it gives "
        "on the whole text.",
        REFUSED,
    )


def _token_ids(model: PreTrainedModel) -> list[int]:
    vocab_size = int(model.config.get_text_config(decoder=True).vocab_size)
    generator = torch.Generator().manual_seed(0)
    found: list[int] = torch.randint(vocab_size, (_PREFIX + _TREE.num_nodes,), generator=generator).tolist()
    return found


def _in_rounds(verify: Verify, model: PreTrainedModel, layers: Sequence[LayerCall], ids: list[int]) -> Tensor:
    """Logits of the text's tokens, `[tokens, vocab]`."""
    capacity = len(ids) + 3
    caches = [
        torch.zeros(1, layer.kv_heads, capacity, layer.head_dim, dtype=next(model.parameters()).dtype)
        for layer in layers
    ]
    keys, values = caches, [cache.clone() for cache in caches]
    logits = []
    with standard_operators(model):
        for given in _rounds(ids):
            masks = [_mask(given, window, capacity) for window in windows_of(layers)]
            rows = torch.arange(given.input_ids.shape[1])[None]
            write_index = torch.tensor([given.start])
            slots = [write_index] * len(masks)
            out, keys, values = verify(given.input_ids, given.position_ids, slots, rows, masks, keys, values)
            logits.append(out[0])
    return torch.cat([logits[0], logits[1][list(_PATH)]])


def _rounds(ids: list[int]) -> Iterator[Round]:
    chain = TreeSpec.chain(_PREFIX - 1)
    for start, tree in ((0, chain), (_PREFIX, _TREE)):
        yield Round(
            torch.tensor([ids[start : start + tree.num_nodes]]),
            start + torch.tensor([tree.depths]),
            np.array([tree.ancestors()], dtype=np.bool_),
            start,
        )


def _mask(given: Round, window: int | None, capacity: int) -> Tensor:
    start, count = np.array([given.start]), np.array([given.input_ids.shape[1]])
    mask = full_mask(given.tree_mask, start, count, capacity)
    if window is not None:
        mask = window_mask(mask, start, given.position_ids.numpy(), window)
    return torch.from_numpy(mask)


def _agree(found: Tensor, expected: Tensor) -> bool:
    """Whether rows `[tokens, n]` are the same but for rounding."""
    tolerance = _TOLERANCE[found.dtype]
    error = (found.float() - expected.float()).norm(dim=-1)
    error = error / expected.float().norm(dim=-1).clamp(min=1e-6)
    # In half precision one row may take another expert; a part that is wrong is wrong in most rows.
    worst = error.max() if found.dtype is torch.float32 else error.median()
    return bool(worst <= tolerance)


def _first_difference(
    verify: Verify, model: PreTrainedModel, layers: Sequence[LayerCall], ids: list[int], text: list[int]
) -> str:
    """Names the first module whose rows differ."""
    with _recorded(model) as whole:
        model(input_ids=torch.tensor([text]), use_cache=False)
    with _recorded(model) as rounds:
        _in_rounds(verify, model, layers, ids)
    modules = dict(model.named_modules())
    rows = len(text) - _PREFIX
    for name, outputs in rounds.items():
        expected = whole.get(name)
        if expected is None or len(expected) != 1 or len(outputs) != 2:
            continue
        first, second, all_rows = outputs[0], outputs[1], expected[0]
        shapes = (first.shape[0], second.shape[0], all_rows.shape[0])
        if shapes != (_PREFIX, _TREE.num_nodes, _PREFIX + rows):
            continue
        if not _agree(torch.cat([first, second[list(_PATH)]]), all_rows):
            name = name if list(modules[name].children()) else name.rpartition(".")[0]
            return f"{name or 'the model'} ({type(modules[name]).__name__})"
    return "the model"


@contextmanager
def _recorded(model: PreTrainedModel) -> Iterator[dict[str, list[Tensor]]]:
    """While open, keeps what every module gives, `[rows, n]`, in the order in which they end."""
    found: dict[str, list[Tensor]] = {}

    def recorder(name: str) -> Callable[..., None]:
        def record(_module: nn.Module, _inputs: Any, output: Any) -> None:
            value = output[0] if isinstance(output, tuple) and output else output
            if isinstance(value, Tensor) and value.ndim == 3 and value.is_floating_point():
                found.setdefault(name, []).append(value[0])

        return record

    with ExitStack() as hooks:
        for name, module in model.named_modules():
            hooks.callback(module.register_forward_hook(recorder(name)).remove)
        yield found
