"""How every layer of a model attends, found by one eager run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionMaskInterface, PreTrainedModel

from ptgc.errors import ExportError
from ptgc.exporters.modules.tap import BlockReader, stand_in_states
from ptgc.exporters.tracing.layer_facts import layer_facts
from ptgc.exporters.tracing.trace import (
    ATTENTION,
    AttentionCall,
    OwnStateError,
    PassThroughCache,
    own_attention,
    tracing,
)

_LOOK_AHEAD = 4  # positions after a row that must be hidden from it
_FAR = 1 << 20  # positions; a larger window counts as none
_UNSUPPORTED = {
    "s_aux": "attention sinks",
    "sinks": "attention sinks",
    "position_bias": "a bias by position",
    "alibi": "a bias by position",
}
_HARMLESS = {
    "cache_position",
    "dropout",
    "logits_to_keep",
    "output_attentions",
    "output_hidden_states",
    "output_router_logits",
    "position_ids",
    "use_cache",
}
_NOT_MIXING = ("Norm", "MLP", "Mlp", "FeedForward", "MoE", "Moe", "Dropout", "Identity", "Embedding", "SparseMoe")
REFUSED = "docs/support.md lists what can be exported, and what is in the way of the rest."


@dataclass(frozen=True)
class LayerCall:
    """How one layer's attention was called."""

    kv_heads: int
    """Heads of keys and values."""
    head_dim: int
    """Size of one head of keys or values, whichever is larger."""
    window: int | None
    """Positions seen, including the current one; None for all."""
    is_causal: bool = False
    """Whether its rows see no later rows of a block, as other layers' do."""


def windows_of(layers: Sequence[LayerCall]) -> list[int | None]:
    """The different windows of these layers, ascending; None (no window) comes first."""
    return sorted({layer.window for layer in layers}, key=lambda window: window or 0)


class Probe:
    """Records every attention call of one run."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.layers: list[LayerCall] = []
        self.callers: list[str] = []
        self._names = {module: name for name, module in model.named_modules()}
        self._windows: list[int | str | None] = [None]
        self._model = type(model).__name__
        self._reads_blocks = isinstance(model, BlockReader)

    def attend(self, call: AttentionCall) -> Tensor:
        """Record the call; the result has no meaning."""
        name = self._names.get(call.module, "")
        self.callers.append(name)
        where = f"{name} ({type(call.module).__name__})"
        for option in sorted(name for name, value in call.others.items() if value is not None):
            if option not in _HARMLESS | {"is_causal", "sliding_window"}:
                raise self._refused(f"{where} uses {_UNSUPPORTED.get(option, 'more than is known of it')} ('{option}')")
        if call.key.shape[2] != call.query.shape[2]:
            raise self._refused(f"{where} attends to more than the text (cross-attention, or tokens of its own)")
        if call.others.get("is_causal", getattr(call.module, "is_causal", True)) is False and call.mask is None:
            raise self._refused(f"{where} sees what follows (it is not causal)")
        size, window = max(call.key.shape[3], call.value.shape[3]), self._window(call.mask, where)
        if call.others.get("sliding_window") not in (None, window):
            raise self._refused(
                f"{where} has a window of {call.others['sliding_window']}, and a mask of {window or 'none'}"
            )
        is_causal = self._reads_blocks and bool(getattr(call.module, "is_causal", True))
        self.layers.append(LayerCall(call.key.shape[1], size, window, is_causal))
        batch, heads, rows, _ = call.query.shape
        return call.query.new_zeros(batch, heads, rows, call.value.shape[3])

    def make_mask(self, batch_size: int, q_length: int, kv_length: int, **kwargs: Any) -> Tensor:
        """The mask given to transformers: each of its values is the number of the window that it stands for."""
        window = _window_of(kwargs["mask_function"])
        if window not in self._windows:
            self._windows.append(window)
        return torch.full((batch_size, 1, q_length, kv_length), 1 + self._windows.index(window))

    def _window(self, mask: Tensor | None, where: str) -> int | None:
        if mask is None:
            return None
        found = torch.unique(mask).tolist()
        if len(found) != 1 or found[0] - 1 not in range(len(self._windows)):
            raise self._refused(f"{where} has an attention mask of its own making")
        window = self._windows[int(found[0]) - 1]
        if isinstance(window, str):
            raise self._refused(f"{where} {window}")
        return window

    def _refused(self, part: str) -> ExportError:
        return ExportError(f"{self._model} cannot be exported: {part}.", REFUSED)


def _window_of(visible: Callable[..., Any]) -> int | str | None:
    """The window of transformers' mask function `(batch, head, query, key)`, found by trying positions.

    Any other mask gives the text of an error, which is raised only if a layer uses that mask.
    """
    windows = set()
    for query in (_FAR, _FAR - 1, _FAR - 13, _FAR // 2 + 5):
        keys = torch.arange(query + 1 + _LOOK_AHEAD)
        zero = torch.tensor(0)
        try:
            seen = torch.as_tensor(visible(zero, zero, torch.tensor(query), keys)).expand(len(keys))
        except (IndexError, RuntimeError):  # masks that depend on tokens index out of range
            return "has an attention mask that depends on more than positions"
        if seen[query + 1 :].any():
            return "sees what follows (bidirectional attention)"
        hidden = torch.nonzero(~seen[: query + 1])
        first = int(hidden.max()) + 1 if len(hidden) else 0  # start of the positions seen without a gap
        if seen[:first].any():
            return "has an attention mask with gaps"
        windows.add(query + 1 - first if first else None)
    return windows.pop() if len(windows) == 1 else "sees chunks of the text (chunked attention)"


@contextlib.contextmanager
def _own_masks(probe: Probe) -> Iterator[None]:
    """While open, transformers uses the probe's masks for our attention."""
    AttentionMaskInterface.register(ATTENTION, probe.make_mask)
    try:
        yield
    finally:
        del AttentionMaskInterface._global_mapping[ATTENTION]  # transformers has no way to unregister


def probe_layers(model: PreTrainedModel) -> list[LayerCall]:
    """How every layer attends.

    Raises:
        ExportError: A layer does not attend through transformers' attention interface, or attends in a way that has no
            standard form.
    """
    probe = Probe(model)
    ids = torch.zeros(1, 2, dtype=torch.long)
    with own_attention(model), _own_masks(probe), tracing(probe), torch.no_grad():
        try:
            model(
                input_ids=ids,
                position_ids=torch.arange(2)[None],
                past_key_values=PassThroughCache(),
                use_cache=True,
                **stand_in_states(model, ids),
            )
        except ExportError:
            raise
        except OwnStateError as error:
            raise ExportError(
                f"{type(model).__name__} cannot be exported: {_failing_part(model, error)} keeps a state of its own "
                "between rounds (recurrent, convolutional or compressed).",
                REFUSED,
            ) from error
        except Exception as error:  # a model's code may raise anything
            raise ExportError(
                f"{type(model).__name__} cannot be exported: {_failing_part(model, error)} does not run on tokens, "
                f"positions and an empty cache ({type(error).__name__}: {_first_line(error)}).",
                REFUSED,
            ) from error
    _compare(model, probe)
    return probe.layers


def _compare(model: PreTrainedModel, probe: Probe) -> None:
    """Refuse a model whose layers do not attend as its configuration says, or at all."""
    facts = layer_facts(model.config)
    expected = facts.num_layers
    part = _part_without_attention(model, expected or 0, probe.callers)
    disagrees = facts.kv_heads is not None and len(probe.layers) != expected
    if not probe.layers or part or disagrees:
        raise ExportError(
            f"{type(model).__name__} cannot be exported: of its {expected or 'unknown number of'} layers, "
            f"{len(probe.layers)} attend through transformers' attention interface{part}.",
            REFUSED,
        )
    for name in ("kv_heads", "head_dim"):
        given, found = getattr(facts, name), {getattr(layer, name) for layer in probe.layers}
        if given is not None and found != {given}:
            raise ExportError(
                f"{type(model).__name__} cannot be exported: its configuration says {name} {given}, "
                f"its layers attend with {', '.join(map(str, sorted(found)))}.",
                "Correct config.json, or report this if it is right.",
            )


def _part_without_attention(model: PreTrainedModel, num_layers: int, callers: list[str]) -> str:
    """The first layer that never called the attention function, and what it has instead; empty if there is none."""
    found = ""
    for name, layers in model.named_modules():
        if not isinstance(layers, nn.ModuleList) or len(layers) != num_layers:
            continue
        silent = [index for index in range(num_layers) if not _called(f"{name}.{index}.", callers)]
        if not silent:
            return ""
        if len(silent) < num_layers or not found:  # another encoder may have as many layers, all silent
            found = _mixer(f"{name}.{silent[0]}", layers[silent[0]])
    return found


def _called(layer: str, callers: list[str]) -> bool:
    return any(caller.startswith(layer) for caller in callers)


def _mixer(path: str, layer: nn.Module) -> str:
    """The part of a layer that takes the place of attention."""
    for name, child in layer.named_children():
        if not any(word in type(child).__name__ for word in _NOT_MIXING):
            return f"; {path}.{name} ({type(child).__name__}) does not"
    return f"; {path} ({type(layer).__name__}) does not"


def _failing_part(model: nn.Module, error: BaseException) -> str:
    """The name of the innermost module of the model in which an error was raised."""
    names = {id(module): name for name, module in model.named_modules()}
    part = "it"
    trace = error.__traceback__
    while trace is not None:
        module = trace.tb_frame.f_locals.get("self")
        if names.get(id(module)):
            part = f"{names[id(module)]} ({type(module).__name__})"
        trace = trace.tb_next
    return part


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else repr(error)
