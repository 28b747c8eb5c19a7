"""The target role: a causal language model that verifies rows of tokens over its KV cache."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ptgc.errors import ExportError
from ptgc.exporters.modules.tap import AttendingTap, BlockReader, LayersReader, StateReader, Tap, stand_in_states
from ptgc.exporters.roles.base import TracedRole
from ptgc.exporters.tracing.layer_facts import decoder_layers, layer_facts
from ptgc.exporters.tracing.operators import gather_rows
from ptgc.exporters.tracing.probe import REFUSED, LayerCall, probe_layers, windows_of
from ptgc.exporters.tracing.rehearsal import rehearse
from ptgc.exporters.tracing.target_graph import finish_graph
from ptgc.exporters.tracing.trace import PassThroughCache, Trace, standard_operators, tracing
from ptgc.graphs.attention_mask import mark_causal
from ptgc.spec import ports
from ptgc.spec.attention import AttentionKind
from ptgc.spec.kv_cache import LayerState, StateKind
from ptgc.spec.ports import DType

DTYPES = {torch.float32: DType.FLOAT32, torch.float16: DType.FLOAT16, torch.bfloat16: DType.BFLOAT16}


class Verify(nn.Module):
    """A causal LM over explicit caches and masks, with logits for chosen rows.

    Args:
        model: The model.
        layers: How its layers attend.
        tap: What it gives of every row besides logits and caches, if anything.
    """

    def __init__(self, model: PreTrainedModel, layers: Sequence[LayerCall], tap: Tap | None = None) -> None:
        super().__init__()
        self.model = model
        self.tap = tap
        self.gives_all_logits = False
        windows = windows_of(layers)
        self.window_of_layer = [windows.index(layer.window) for layer in layers]
        self.causal_windows = {windows.index(layer.window) for layer in layers if layer.is_causal}

    def forward(
        self,
        input_ids: Tensor,  # [batch, num_tokens]
        position_ids: Tensor,  # [batch, num_tokens]
        write_index: list[Tensor],  # by window, [batch]
        logits_rows: Tensor,  # [batch, num_logits]
        masks: list[Tensor],  # by window, [batch, 1, num_tokens, its capacity]
        keys: list[Tensor],  # by layer, [batch, kv_heads, its window's capacity, head_dim]
        values: list[Tensor],  # by layer, as keys
        hidden_states: Tensor | None = None,  # [batch, num_tokens, states_size], of a model that reads states
    ) -> tuple[Any, ...]:
        """Logits `[batch, num_logits, vocab]`, the caches with this round written, states, and the logits of all rows.

        States are what the tap makes of every row, or what a model that reads states gives of the chosen ones. To a
        model that reads blocks, the rows before the first chosen one are context. One with a layer for each draft
        drafts behind the first chosen row, and gives logits of as many drafts as rows are chosen. Both give no states.
        """
        first_slots = [write_index[index] for index in self.window_of_layer]
        for index in self.causal_windows:
            masks = [*masks[:index], masks[index] & _up_to_own(masks[index], write_index[index]), *masks[index + 1 :]]
        trace = Trace(keys, values, first_slots, [masks[index] for index in self.window_of_layer])
        given = {} if hidden_states is None else {"hidden_states": hidden_states}
        if isinstance(self.model, BlockReader):
            given["is_context"] = torch.arange(input_ids.shape[1]) < logits_rows[:, :1]
        if has_layers := isinstance(self.model, LayersReader):
            given["last_rows"] = logits_rows[:, 0, None]  # a slice's length would not be known to be 1
        with tracing(trace), self._watched(logits_rows) as seen:
            logits = self.model(
                input_ids=input_ids,
                position_ids=position_ids,
                past_key_values=PassThroughCache(),
                use_cache=True,
                **given,
            ).logits
        if has_layers:
            chosen = logits.index_select(1, torch.arange(logits_rows.shape[1]).clamp(max=logits.shape[1] - 1))
        else:
            chosen = logits if seen.chosen is not None else gather_rows(logits, logits_rows)
        made: tuple[Any, ...] = (chosen, trace.new_keys, trace.new_values)
        if self.tap is not None and seen.complete(self.tap):
            made = (*made, self._prepared(seen.states, trace, position_ids))
        elif hidden_states is not None and not isinstance(self.model, (BlockReader, LayersReader)):
            made = (*made, seen.chosen)
        return (*made, logits) if self.gives_all_logits else made

    def _prepared(self, states: list[Tensor], trace: Trace, position_ids: Tensor) -> Tensor:
        """What the tap makes of states; its layers, if it has some, follow the model's in the trace."""
        assert self.tap is not None
        if not isinstance(self.tap, AttendingTap):
            made: Tensor = self.tap(states)
            return made
        with tracing(trace):
            return self.tap.prepare(states, position_ids, PassThroughCache())

    @contextmanager
    def _watched(self, logits_rows: Tensor) -> Iterator[_Seen]:
        """While open, the body's last states are those of the chosen rows, and what a tap reads is kept."""
        seen, body = _Seen(), self.model.base_model
        assert isinstance(body, nn.Module)
        tapped = self.tap.layers if self.tap is not None else ()
        layers = decoder_layers(self.model) if tapped else ()
        ends = self.tap is not None and (not tapped or tapped[-1] == len(layers))

        def choose_rows(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            if isinstance(getattr(output, "last_hidden_state", None), Tensor):
                if ends:
                    seen.states.append(output.last_hidden_state)
                if not self.gives_all_logits:
                    seen.chosen = output.last_hidden_state = gather_rows(output.last_hidden_state, logits_rows)
            return output

        def keep(_module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            seen.states.append(given[0] if given else named["hidden_states"])

        with ExitStack() as hooks:
            hooks.callback(body.register_forward_hook(choose_rows).remove)
            for index in tapped:
                if index < len(layers):
                    hooks.callback(layers[index].register_forward_pre_hook(keep, with_kwargs=True).remove)
            yield seen


def _up_to_own(mask: Tensor, first_slot: Tensor) -> Tensor:
    """The slots up to each row's own, bool, as a mask `[batch, 1, num_tokens, capacity]` that it is combined with."""
    own = first_slot[:, None] + torch.arange(mask.shape[2])
    return torch.arange(mask.shape[3]) <= own[:, None, :, None]


class _Seen:
    """What hooks kept of one run."""

    def __init__(self) -> None:
        self.states: list[Tensor] = []
        self.chosen: Tensor | None = None

    def complete(self, tap: Tap) -> bool:
        """Whether everything that a tap reads is there."""
        return len(self.states) == max(len(tap.layers), 1)


def layer_states(layers: Sequence[LayerCall], dtype: DType) -> tuple[LayerState, ...]:
    """The cache that these layers keep."""
    return tuple(
        LayerState(
            StateKind.FULL if layer.window is None else StateKind.WINDOW,
            layer.kv_heads,
            layer.head_dim,
            dtype,
            window=layer.window,
        )
        for layer in layers
    )


def trace_target(
    model: PreTrainedModel,
    attention: AttentionKind = AttentionKind.CAUSAL,
    mask_extra: int = 0,
    tap: Tap | None = None,
    num_top_ids: int = 0,
) -> TracedRole:
    """Trace a causal LM into the canonical graph.

    Args:
        model: A transformers causal LM in eval mode; it is left as it was.
        attention: What the rows of a round may see of each other.
        mask_extra: Mask slots in addition to the round's own.
        tap: What it gives besides logits and caches, for a drafter to read.
        num_top_ids: How many of the likeliest tokens after every row it gives.

    Raises:
        ExportError: Part of the model cannot become a standard graph, or gives another text when read in rounds; the
            part is named.
    """
    dtype = DTYPES[next(model.parameters()).dtype]
    layers = probe_layers(model)
    verify = Verify(model, layers).eval()
    _check_windows(model, layers, mask_extra)
    if not isinstance(model, LayersReader):  # it gives other rows than it reads
        rehearse(verify, model, layers, attention, mask_extra)
    layers += _layers_of(tap)
    verify = Verify(model, layers, tap).eval()
    verify.gives_all_logits = num_top_ids > 0
    states = layer_states(layers, dtype)
    with standard_operators(model), standard_operators(tap.body) if isinstance(tap, AttendingTap) else nullcontext():
        program = _export(verify, layers, next(model.parameters()).dtype)
    traced = program.model
    program.exported_program = None
    inputs, outputs = finish_graph(traced, states, dtype, num_top_ids)
    mark_causal(traced, [layer.is_causal for layer in layers])
    if tap is not None and outputs[-1].name != ports.HIDDEN_STATES:
        raise ExportError(f"{type(model).__name__} gives no hidden states, which the drafter reads.", REFUSED)
    return TracedRole(traced, inputs, outputs, states, attention=attention, mask_extra=mask_extra)


def _layers_of(tap: Tap | None) -> list[LayerCall]:
    """How the layers of a tap attend: to all of the text."""
    if not isinstance(tap, AttendingTap):
        return []
    facts = layer_facts(tap.body.config)
    assert facts.num_layers and facts.kv_heads and facts.head_dim
    return [LayerCall(facts.kv_heads, facts.head_dim, window=None)] * facts.num_layers


def _check_windows(model: PreTrainedModel, layers: Sequence[LayerCall], mask_extra: int) -> None:
    """Layers with windows treat the slots of other rounds that the mask covers as inside the window; check that.

    Raises:
        ExportError: A window is too small.
    """
    smallest = min((layer.window for layer in layers if layer.window is not None), default=None)
    if smallest is not None and smallest <= mask_extra:
        raise ExportError(
            f"{type(model).__name__} attends to the last {smallest} tokens in some layers; a tree of {mask_extra} "
            "draft tokens may reach further back.",
            f"Give a tree of at most {smallest - 1} draft tokens.",
        )


def _export(module: Verify, layers: Sequence[LayerCall], dtype: torch.dtype) -> torch.onnx.ONNXProgram:
    """Run PyTorch's exporter on example inputs whose sizes are all different."""
    batch, tokens, rows = 3, 7, 5
    windows = windows_of(layers)
    capacity = {window: 37 + 4 * index for index, window in enumerate(windows)}
    ids = torch.zeros(batch, tokens, dtype=torch.long)
    caches = [
        torch.zeros(batch, layer.kv_heads, capacity[layer.window], layer.head_dim, dtype=dtype) for layer in layers
    ]
    example = (
        ids,
        torch.arange(tokens).repeat(batch, 1),
        [torch.zeros(batch, dtype=torch.long) for _ in windows],
        torch.zeros(batch, rows, dtype=torch.long),
        [torch.ones(batch, 1, tokens, size, dtype=torch.bool) for size in capacity.values()],
        caches,
        [cache.clone() for cache in caches],
        *stand_in_states(module.model, ids).values(),
    )
    dim = torch.export.Dim
    b, t = dim(ports.BATCH, min=2, max=1024), dim(ports.NUM_TOKENS, min=2, max=4096)
    r = dim(ports.NUM_LOGITS, min=2, max=4096)
    slots = {
        window: dim(ports.KV_CAPACITY if window is None else ports.window_capacity(window), min=2, max=1 << 20)
        for window in windows
    }
    cache_dims = [{0: b, 2: slots[layer.window]} for layer in layers]
    mask_dims = [{0: b, 2: t, 3: size} for size in slots.values()]
    first_slots = [{0: b} for _ in windows]
    dims: tuple[Any, ...] = (
        {0: b, 1: t},
        {0: b, 1: t},
        first_slots,
        {0: b, 1: r},
        mask_dims,
        cache_dims,
        list(cache_dims),
        *([{0: b, 1: t}] if isinstance(module.model, StateReader) else ()),
    )
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # PyTorch's exporter warns about its own internals
            program = torch.onnx.export(
                module, example, dynamo=True, opset_version=ports.OPSET, dynamic_shapes=dims, verbose=False
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ExportError(
            f"{type(module.model).__name__} cannot be exported: PyTorch could not trace it: {_first_reason(error)}",
            REFUSED,
        ) from error
    finally:
        quiet.setLevel(level)
    assert program is not None
    return program


def _first_reason(error: BaseException) -> str:
    """The innermost cause, which names what PyTorch could not trace."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else error!r}"
