"""The target role: a causal language model that verifies rows of tokens over its KV cache."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ptgc.errors import ExportError
from ptgc.exporters.tracing import (
    LayerCall,
    PassThroughCache,
    Trace,
    gather_rows,
    probe_layers,
    standard_operators,
    tracing,
)
from ptgc.graphs.attention_mask import AttentionMask, RoundPorts
from ptgc.graphs.kv_cache import compact_rows
from ptgc.graphs.passes.tidy import TidyPass
from ptgc.graphs.piece import Piece
from ptgc.graphs.selection import argmax, top_k
from ptgc.graphs.values import describe, input_value
from ptgc.spec import ports
from ptgc.spec.kv_cache import LayerState, StateKind
from ptgc.spec.ports import DType, Port

DTYPES = {torch.float32: DType.FLOAT32, torch.float16: DType.FLOAT16, torch.bfloat16: DType.BFLOAT16}


@dataclass(frozen=True)
class TracedTarget:
    """The graphs of a target, its weights still in PyTorch's memory."""

    model: ir.Model
    """The canonical graph."""
    commit_model: ir.Model
    """Moves accepted rows of the cache together; only token trees need it."""
    inputs: tuple[Port, ...]
    """Ports that come in, states apart."""
    outputs: tuple[Port, ...]
    """Ports that go out, states apart."""
    states: tuple[LayerState, ...]
    """The KV cache by layer."""


class Verify(nn.Module):
    """A causal LM over explicit caches and masks, with logits for chosen rows."""

    def __init__(self, model: PreTrainedModel, windows: Sequence[int | None]) -> None:
        super().__init__()
        self.model = model
        self.windows = tuple(windows)

    def forward(
        self,
        input_ids: Tensor,  # [batch, num_tokens]
        position_ids: Tensor,  # [batch, num_tokens]
        write_index: Tensor,  # [batch]
        logits_rows: Tensor,  # [batch, num_logits]
        masks: list[Tensor],  # by window, [batch, 1, num_tokens, kv_capacity]
        keys: list[Tensor],  # by layer, [batch, kv_heads, kv_capacity, head_dim]
        values: list[Tensor],  # by layer, as keys
    ) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Logits `[batch, num_logits, vocab]` and the caches with this round written."""
        trace = Trace(keys, values, write_index, dict(zip(self.windows, masks, strict=True)))

        def choose_rows(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            output.last_hidden_state = gather_rows(output.last_hidden_state, logits_rows)
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
        return logits, trace.new_keys, trace.new_values


def layer_states(layers: Sequence[LayerCall], dtype: DType) -> tuple[LayerState, ...]:
    """The cache that these layers keep."""
    return tuple(
        LayerState(StateKind.FULL, layer.kv_heads, layer.head_dim, dtype, window=layer.window) for layer in layers
    )


def trace_target(model: PreTrainedModel) -> TracedTarget:
    """Trace a causal LM into the canonical graph.

    Args:
        model: A transformers causal LM in eval mode; it is left as it was.

    Raises:
        ExportError: Something in the model cannot become a standard graph.
    """
    dtype = DTYPES[next(model.parameters()).dtype]
    layers = probe_layers(model)
    states = layer_states(layers, dtype)
    windows = sorted({layer.window for layer in layers}, key=lambda window: window or 0)
    with standard_operators(model):
        program = _export(Verify(model, windows).eval(), layers, windows, next(model.parameters()).dtype)
    traced = program.model
    program.exported_program = None
    logits = traced.graph.outputs[0]
    assert logits.shape is not None
    vocab_size = logits.shape[-1]
    assert isinstance(vocab_size, int)
    outputs = (ports.logits(vocab_size, dtype), ports.NEXT_IDS, ports.top_logits(dtype), ports.TOP_IDS)
    inputs = (
        ports.INPUT_IDS,
        ports.POSITION_IDS,
        ports.TREE_MASK,
        ports.WRITE_INDEX,
        ports.ROW_COUNT,
        ports.LOGITS_ROWS,
    )
    _name_ports(traced.graph, windows, states, outputs[0])
    _expand_masks(traced.graph, windows)
    _append_selection(traced.graph, outputs)
    _order_inputs(traced.graph, inputs, states)
    TidyPass()(traced)
    return TracedTarget(traced, commit_model(states), inputs, outputs, states)


def _export(
    module: Verify, layers: Sequence[LayerCall], windows: Sequence[int | None], dtype: torch.dtype
) -> torch.onnx.ONNXProgram:
    """Run PyTorch's exporter on example inputs whose sizes are all different."""
    batch, tokens, capacity, rows = 3, 7, 37, 5
    ids = torch.zeros(batch, tokens, dtype=torch.long)
    caches = [torch.zeros(batch, layer.kv_heads, capacity, layer.head_dim, dtype=dtype) for layer in layers]
    masks = [torch.ones(batch, 1, tokens, capacity, dtype=torch.bool) for _ in windows]
    example = (
        ids,
        torch.arange(tokens).repeat(batch, 1),
        torch.zeros(batch, dtype=torch.long),
        torch.zeros(batch, rows, dtype=torch.long),
        masks,
        caches,
        [cache.clone() for cache in caches],
    )
    dim = torch.export.Dim
    b, t = dim(ports.BATCH, min=2, max=1024), dim(ports.NUM_TOKENS, min=2, max=4096)
    s, r = dim(ports.KV_CAPACITY, min=2, max=1 << 20), dim(ports.NUM_LOGITS, min=2, max=4096)
    cache_dims = [{0: b, 2: s} for _ in layers]
    mask_dims = [{0: b, 2: t, 3: s} for _ in windows]
    dims = ({0: b, 1: t}, {0: b, 1: t}, {0: b}, {0: b, 1: r}, mask_dims, cache_dims, list(cache_dims))
    quiet = logging.getLogger("torch.onnx")
    level = quiet.level
    quiet.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # PyTorch's exporter warns of its own internals
            program = torch.onnx.export(
                module, example, dynamo=True, opset_version=ports.OPSET, dynamic_shapes=dims, verbose=False
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ExportError(
            f"{type(module.model).__name__} could not be traced: {_first_reason(error)}",
            "docs/support.md lists the families that can.",
        ) from error
    finally:
        quiet.setLevel(level)
    assert program is not None
    return program


def _first_reason(error: BaseException) -> str:
    """The innermost cause, which names what PyTorch could not follow."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else error!r}"


def _mask_name(window: int | None) -> str:
    return "mask.full" if window is None else f"mask.window.{window}"


def _name_ports(graph: ir.Graph, windows: Sequence[int | None], states: Sequence[LayerState], logits: Port) -> None:
    """Give the exporter's inputs and outputs their contract names and shapes."""
    past = [state.past_ports(layer) for layer, state in enumerate(states)]
    present = [state.present_ports(layer) for layer, state in enumerate(states)]
    mask_shape = (ports.BATCH, 1, ports.NUM_TOKENS, ports.KV_CAPACITY)
    incoming = [
        ports.INPUT_IDS,
        ports.POSITION_IDS,
        ports.WRITE_INDEX,
        ports.LOGITS_ROWS,
        *(Port(_mask_name(window), DType.BOOL, mask_shape) for window in windows),
        *(key for key, _ in past),
        *(value for _, value in past),
    ]
    outgoing = [logits, *(key for key, _ in present), *(value for _, value in present)]
    for values, given in ((graph.inputs, incoming), (graph.outputs, outgoing)):
        assert len(values) == len(given)
        for value, port in zip(values, given, strict=True):
            describe(value, port)


def _expand_masks(graph: ir.Graph, windows: Sequence[int | None]) -> None:
    """Replace the mask inputs by the prologue that makes them of the small ports."""
    named = {value.name: value for value in graph.inputs}
    tree_mask, row_count = input_value(ports.TREE_MASK), input_value(ports.ROW_COUNT)
    graph.inputs.extend([tree_mask, row_count])
    piece = Piece("ptgc.attention_mask")
    round_ports = RoundPorts(
        tree_mask,
        named[ports.WRITE_INDEX.name],
        row_count,
        named[ports.POSITION_IDS.name],
        named["past_key_values.0.key"],
    )
    mask = AttentionMask(piece, round_ports)
    for window in windows:
        given = named[_mask_name(window)]
        given.replace_all_uses_with(mask.full() if window is None else mask.window(window))
        graph.inputs.remove(given)
    piece.insert_at_start(graph)


def _append_selection(graph: ir.Graph, outputs: Sequence[Port]) -> None:
    """Append argmax and the largest logits, and make them outputs right behind the logits."""
    piece = Piece("ptgc.selection")
    logits = graph.outputs[0]
    chosen = [argmax(piece, logits), *top_k(piece, logits, ports.TOP_K)]
    for value, port in zip(chosen, outputs[1:], strict=True):
        describe(value, port)
    piece.append_to(graph)
    for index, value in enumerate(chosen):
        graph.outputs.insert(1 + index, value)


def _order_inputs(graph: ir.Graph, inputs: Sequence[Port], states: Sequence[LayerState]) -> None:
    """Inputs in the contract's order: small ports, then the caches layer by layer; outputs likewise."""
    named = {value.name: value for value in graph.inputs}
    caches = [port for layer, state in enumerate(states) for port in state.past_ports(layer)]
    graph.inputs[:] = [named[port.name] for port in (*inputs, *caches)]
    made = {value.name: value for value in graph.outputs}
    present = [port.name for layer, state in enumerate(states) for port in state.present_ports(layer)]
    others = [value for value in graph.outputs if value.name not in set(present)]
    graph.outputs[:] = [*others, *(made[name] for name in present)]


def commit_model(states: Sequence[LayerState]) -> ir.Model:
    """The graph that moves accepted rows of every layer together, in place."""
    keep_rows, write_index = input_value(ports.KEEP_ROWS), input_value(ports.WRITE_INDEX)
    piece = Piece("ptgc.commit")
    inputs, outputs = [keep_rows, write_index], []
    for layer, state in enumerate(states):
        for before, after in zip(state.past_ports(layer), state.present_ports(layer), strict=True):
            cache = input_value(before)
            moved = compact_rows(piece, cache, keep_rows, write_index)
            describe(moved, after)
            inputs.append(cache)
            outputs.append(moved)
    graph = ir.Graph(inputs, outputs, nodes=piece.nodes, opset_imports={"": ports.OPSET}, name="commit")
    return ir.Model(graph, ir_version=ports.IR_VERSION)
