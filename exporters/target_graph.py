"""From what PyTorch's exporter wrote to the canonical graph of a target: names, prologue, selection, order."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from ptgc.graphs.attention_mask import AttentionMask, RoundPorts
from ptgc.graphs.kv_cache import compact_rows
from ptgc.graphs.passes.tidy import TidyPass
from ptgc.graphs.piece import Piece
from ptgc.graphs.selection import argmax, top_k
from ptgc.graphs.values import describe, input_value
from ptgc.spec import ports
from ptgc.spec.kv_cache import LayerState
from ptgc.spec.ports import DType, Port


def finish_graph(
    traced: ir.Model, states: Sequence[LayerState], dtype: DType
) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Make the canonical graph of what `ptgc.exporters.target.Verify` was traced into.

    Args:
        traced: The exporter's graph; changed in place.
        states: The KV cache by layer.
        dtype: The model's.

    Returns:
        The ports that come in and go out, states apart.
    """
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
    windows = sorted({state.window for state in states}, key=lambda window: window or 0)
    _name_ports(traced.graph, windows, states, outputs[0])
    _expand_masks(traced.graph, windows)
    _append_selection(traced.graph, outputs)
    _order_inputs(traced.graph, inputs, states)
    TidyPass()(traced)
    return inputs, outputs


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
