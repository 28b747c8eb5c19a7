"""The target role: a causal language model that verifies rows of tokens over its KV cache."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ptgc.errors import ExportError
from ptgc.exporters.roles.base import TracedRole
from ptgc.exporters.tracing.operators import gather_rows
from ptgc.exporters.tracing.probe import REFUSED, LayerCall, probe_layers, windows_of
from ptgc.exporters.tracing.rehearsal import rehearse
from ptgc.exporters.tracing.target_graph import finish_graph
from ptgc.exporters.tracing.trace import PassThroughCache, Trace, standard_operators, tracing
from ptgc.spec import ports
from ptgc.spec.attention import AttentionKind
from ptgc.spec.kv_cache import LayerState, StateKind
from ptgc.spec.ports import DType

DTYPES = {torch.float32: DType.FLOAT32, torch.float16: DType.FLOAT16, torch.bfloat16: DType.BFLOAT16}


class Verify(nn.Module):
    """A causal LM over explicit caches and masks, with logits for chosen rows."""

    def __init__(self, model: PreTrainedModel, layers: Sequence[LayerCall]) -> None:
        super().__init__()
        self.model = model
        self.gives_hidden_states = False  # in addition to logits and caches
        windows = windows_of(layers)
        self.window_of_layer = [windows.index(layer.window) for layer in layers]

    def forward(
        self,
        input_ids: Tensor,  # [batch, num_tokens]
        position_ids: Tensor,  # [batch, num_tokens]
        write_index: list[Tensor],  # by window, [batch]
        logits_rows: Tensor,  # [batch, num_logits]
        masks: list[Tensor],  # by window, [batch, 1, num_tokens, its capacity]
        keys: list[Tensor],  # by layer, [batch, kv_heads, its window's capacity, head_dim]
        values: list[Tensor],  # by layer, as keys
    ) -> tuple[Any, ...]:
        """Logits `[batch, num_logits, vocab]`, the caches with this round written; hidden states if requested."""
        first_slots = [write_index[index] for index in self.window_of_layer]
        trace = Trace(keys, values, first_slots, [masks[index] for index in self.window_of_layer])
        chosen = list[Tensor]()

        def choose_rows(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            if isinstance(getattr(output, "last_hidden_state", None), Tensor):
                output.last_hidden_state = gather_rows(output.last_hidden_state, logits_rows)
                chosen.append(output.last_hidden_state)
            return output

        body = self.model.base_model
        assert isinstance(body, nn.Module)
        hook = body.register_forward_hook(choose_rows)
        try:
            with tracing(trace):
                logits = self.model(
                    input_ids=input_ids,
                    position_ids=position_ids,
                    past_key_values=PassThroughCache(),
                    use_cache=True,
                ).logits
        finally:
            hook.remove()
        logits = logits if chosen else gather_rows(logits, logits_rows)
        made = (logits, trace.new_keys, trace.new_values)
        return (*made, chosen[0]) if self.gives_hidden_states and chosen else made


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
    taps: Sequence[str] = (),
) -> TracedRole:
    """Trace a causal LM into the canonical graph.

    Args:
        model: A transformers causal LM in eval mode; it is left as it was.
        attention: What the rows of a round may see of each other.
        mask_extra: Slots that the mask covers besides the round's own.
        taps: Outputs in addition to logits and caches: `hidden_states`.

    Raises:
        ExportError: Part of the model cannot become a standard graph, or gives another text when read in rounds; the
            part is named.
    """
    dtype = DTYPES[next(model.parameters()).dtype]
    layers = probe_layers(model)
    verify = Verify(model, layers).eval()
    _check_windows(model, layers, mask_extra)
    rehearse(verify, model, layers, attention, mask_extra)
    verify.gives_hidden_states = ports.HIDDEN_STATES in taps
    states = layer_states(layers, dtype)
    with standard_operators(model):
        program = _export(verify, layers, next(model.parameters()).dtype)
    traced = program.model
    program.exported_program = None
    inputs, outputs = finish_graph(traced, states, dtype)
    missing = sorted(set(taps) - {port.name for port in outputs})
    if missing:
        raise ExportError(f"{type(model).__name__} gives no {', '.join(missing)}, which the drafter reads.", REFUSED)
    return TracedRole(traced, inputs, outputs, states, attention=attention, mask_extra=mask_extra)


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
    dims = ({0: b, 1: t}, {0: b, 1: t}, first_slots, {0: b, 1: r}, mask_dims, cache_dims, list(cache_dims))
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
