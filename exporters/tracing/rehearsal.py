"""Checking, before a model is traced, that reading in rounds over our own cache gives the same logits."""

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
from ptgc.exporters.modules.tap import stand_in_states
from ptgc.exporters.tracing.probe import REFUSED, LayerCall, windows_of
from ptgc.exporters.tracing.trace import standard_operators
from ptgc.graphs.reference import full_mask, window_mask
from ptgc.spec.attention import AttentionKind
from ptgc.spec.tree import TreeSpec

_PREFIX = TreeSpec.chain(5)  # the first round: the beginning of the text
# The second round is a tree that has the text as one path; its other rows lie in between.
_TREE = TreeSpec((-1, 0, 0, 1, 2, 3, 3, 5, 7))
_PATH = (0, 1, 3, 5, 7, 8)
_FIRST_NODES = 4  # nodes run before the others if the tree is drafted depth by depth
_TOLERANCE = {torch.float32: 2e-3, torch.float16: 0.05, torch.bfloat16: 0.2}  # relative to the logits


@dataclass(frozen=True)
class Round:
    """The input of one round, for one sequence."""

    positions: list[int]
    """The position of each row."""
    mask: list[list[bool]]
    """Which slots from `mask_start` on each row sees, `[rows, mask_slots]`."""
    mask_start: int
    """All slots before it are visible."""
    write_index: int
    """The slot of the first row."""
    kept: list[int]
    """Rows that hold the text's next tokens; the other rows are distractors."""

    @property
    def count(self) -> int:
        """The number of rows."""
        return len(self.positions)


def _tree_round(start: int, tree: TreeSpec, kept: Sequence[int], first: int = 0, end: int | None = None) -> Round:
    """Nodes `first` to `end` of a tree whose node 0 is at position `start`."""
    nodes = range(first, tree.num_nodes if end is None else end)
    mask = [tree.ancestors()[node] for node in nodes]
    rows = [node - first for node in kept if node in nodes]
    return Round([start + tree.depths[node] for node in nodes], mask, start, start + first, rows)


def rounds_of(attention: AttentionKind, mask_extra: int = 0) -> list[Round]:
    """Rounds that use everything a kind of mask allows.

    Args:
        attention: What the rows of a round may see of each other.
        mask_extra: Nonzero if a round sees uncommitted rows of other rounds.
    """
    prefix = _tree_round(0, _PREFIX, range(6))
    start = _PREFIX.num_nodes
    if attention is AttentionKind.CAUSAL:
        rejected = _tree_round(start, TreeSpec.chain(3), range(2))
        return [prefix, rejected, _tree_round(start + 2, TreeSpec.chain(3), range(4))]
    if attention is AttentionKind.BLOCK:
        sizes = ((0, start), (start, 4), (start + 4, 4))
        return [Round(list(range(at, at + n)), [[True] * n] * n, at, at, list(range(n))) for at, n in sizes]
    if mask_extra == 0:
        return [prefix, _tree_round(start, _TREE, _PATH)]
    parts = ((0, _FIRST_NODES), (_FIRST_NODES, _TREE.num_nodes))
    return [prefix, *(_tree_round(start, _TREE, _PATH, first, end) for first, end in parts)]


Verify = Callable[..., tuple[Any, ...]]
"""See `ptgc.exporters.roles.target.Verify.forward`."""


def rehearse(
    verify: Verify,
    model: PreTrainedModel,
    layers: Sequence[LayerCall],
    attention: AttentionKind = AttentionKind.CAUSAL,
    mask_extra: int = 0,
) -> None:
    """Read a short text in rounds that mix it with other rows, as the role's masks allow.

    The logits must be those of the model on the whole text. Models that break this cannot verify in rounds: those with
    recurrent states, caches shared by layers, positions that follow the order of rows, or attention to anything else.

    Args:
        verify: The model over explicit caches.
        model: The model.
        layers: How its layers attend.
        attention: What the rows of a round may see of each other.
        mask_extra: Slots that the mask covers besides the round's own.

    Raises:
        ExportError: The logits differ; the first module that differs is named.
    """
    rounds = rounds_of(attention, mask_extra)
    ids = [token_ids(model, one.count, seed) for seed, one in enumerate(rounds)]
    text = kept_tokens(ids, rounds)
    whole = {"input_ids": torch.tensor([text]), "use_cache": False}
    whole |= stand_in_states(model, torch.tensor([text]))
    if attention is AttentionKind.BLOCK:
        whole["attention_mask"] = block_masks(model, layers, rounds)
    with torch.no_grad():
        expected = model(**whole).logits[0]
        found = _in_rounds(verify, model, layers, rounds, ids)
        if agree(text_rows(found, rounds), expected):
            return
        with _recorded(model) as of_text:
            model(**whole)
        with _recorded(model) as of_rounds:
            _in_rounds(verify, model, layers, rounds, ids)
    part = _first_difference(model, rounds, of_text, of_rounds)
    raise ExportError(
        f"{type(model).__name__} cannot be exported: read in rounds over a cache, {part} does not give what it gives "
        "on the whole text.",
        REFUSED,
    )


def token_ids(model: PreTrainedModel, count: int, seed: int) -> list[int]:
    """Some tokens of the model's vocabulary."""
    vocab_size = int(model.config.get_text_config(decoder=True).vocab_size)
    generator = torch.Generator().manual_seed(seed)
    found: list[int] = torch.randint(vocab_size, (count,), generator=generator).tolist()
    return found


def kept_tokens(ids: Sequence[Sequence[int]], rounds: Sequence[Round]) -> list[int]:
    """The text contained in rounds of these tokens."""
    return [tokens[row] for tokens, one in zip(ids, rounds, strict=True) for row in one.kept]


def text_rows(found: Sequence[Tensor], rounds: Sequence[Round]) -> Tensor:
    """The rows of the text's tokens from the outputs of all rounds."""
    return torch.cat([rows[one.kept] for rows, one in zip(found, rounds, strict=True)])


def _in_rounds(
    verify: Verify, model: PreTrainedModel, layers: Sequence[LayerCall], rounds: Sequence[Round], ids: list[list[int]]
) -> list[Tensor]:
    """Logits of each round, `[rows, vocab]`."""
    capacity = max(one.write_index + one.count for one in rounds) + 3
    caches = [
        torch.zeros(1, layer.kv_heads, capacity, layer.head_dim, dtype=next(model.parameters()).dtype)
        for layer in layers
    ]
    keys, values = caches, [cache.clone() for cache in caches]
    logits = []
    with standard_operators(model):
        for tokens, given in zip(ids, rounds, strict=True):
            masks = [round_mask(given, window, capacity) for window in windows_of(layers)]
            rows = torch.arange(given.count)[None]
            slots = [torch.tensor([given.write_index])] * len(masks)
            positions = torch.tensor([given.positions])
            read = torch.tensor([tokens])
            states = stand_in_states(model, read).values()
            out, keys, values, *_ = verify(read, positions, slots, rows, masks, keys, values, *states)
            logits.append(out[0])
    return logits


def round_mask(given: Round, window: int | None, capacity: int) -> Tensor:
    """The slots of a cache that a round sees, bool `[1, 1, rows, capacity]`."""
    first, start, count = (np.array([number]) for number in (given.mask_start, given.write_index, given.count))
    mask = full_mask(np.array([given.mask]), first, start, count, capacity)
    if window is not None:
        mask = window_mask(mask, first, start, np.array([given.positions]), window)
    return torch.from_numpy(mask)


def block_masks(
    model: PreTrainedModel, layers: Sequence[LayerCall], rounds: Sequence[Round]
) -> Tensor | dict[str, Tensor]:
    """The masks for the model on the whole text: each row sees everything up to the end of its round, or itself."""
    dtype = next(model.parameters()).dtype
    ends = torch.tensor([one.write_index + one.count for one in rounds for _ in range(one.count)])
    positions = torch.arange(len(ends))
    masks = {}
    for window in windows_of(layers):
        seen = positions < ends[:, None]
        if window is not None:
            seen = seen & (positions[:, None] - positions < window)
        if any(layer.is_causal for layer in layers if layer.window == window):
            seen = seen & (positions <= positions[:, None])
        kind = "full_attention" if window is None else "sliding_attention"
        masks[kind] = torch.where(seen, 0.0, torch.finfo(dtype).min).to(dtype)[None, None]
    has_types = len(set(getattr(model.config, "layer_types", None) or ())) > 1
    return masks if has_types else next(iter(masks.values()))


def agree(found: Tensor, expected: Tensor) -> bool:
    """Whether rows `[tokens, n]` are equal up to rounding."""
    tolerance = _TOLERANCE[found.dtype]
    error = (found.float() - expected.float()).norm(dim=-1)
    error = error / expected.float().norm(dim=-1).clamp(min=1e-6)
    # In half precision a single row may choose another expert; a real error shows in most rows.
    worst = error.max() if found.dtype is torch.float32 else error.median()
    return bool(worst <= tolerance)


def _first_difference(
    model: PreTrainedModel,
    rounds: Sequence[Round],
    of_text: dict[str, list[Tensor]],
    of_rounds: dict[str, list[Tensor]],
) -> str:
    """The name of the first module whose rows differ."""
    modules = dict(model.named_modules())
    for name, outputs in of_rounds.items():
        expected = of_text.get(name)
        if expected is None or len(expected) != 1 or [len(rows) for rows in outputs] != [one.count for one in rounds]:
            continue
        found = text_rows(outputs, rounds)
        if found.shape == expected[0].shape and not agree(found, expected[0]):
            name = name if list(modules[name].children()) else name.rpartition(".")[0]
            return f"{name or 'the model'} ({type(modules[name]).__name__})"
    return "the model"


@contextmanager
def _recorded(model: PreTrainedModel) -> Iterator[dict[str, list[Tensor]]]:
    """While open, records the output of every module, `[rows, n]`, in the order in which modules finish."""
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
