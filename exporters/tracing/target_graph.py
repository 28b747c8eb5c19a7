"""Turning the graph of PyTorch's exporter into the canonical graph of a target: names, prologue, selection, order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from ptgc.errors import ExportError
from ptgc.graphs.attention_mask import AttentionMask, CacheSlots, RoundPorts, capacity
from ptgc.graphs.passes.tidy import TidyPass
from ptgc.graphs.piece import Piece
from ptgc.graphs.selection import argmax, top_ids
from ptgc.graphs.values import describe, input_value
from ptgc.spec import ports
from ptgc.spec.kv_cache import LayerState
from ptgc.spec.ports import DType, Port


def finish_graph(
    traced: ir.Model, states: Sequence[LayerState], dtype: DType, num_top_ids: int = 0
) -> tuple[tuple[Port, ...], tuple[Port, ...]]:
    """Make the canonical graph from the trace of `ptgc.exporters.roles.target.Verify`.

    Args:
        traced: The exporter's graph; changed in place.
        states: The KV cache by layer.
        dtype: The model's type.
        num_top_ids: How many of the likeliest tokens after every row the graph gives. If any, the trace's last output
            are the logits of all rows.

    Returns:
        The input and output ports, without states.

    Raises:
        ExportError: The vocabulary is smaller than that.
    """
    logits = traced.graph.outputs[0]
    assert logits.shape is not None
    vocab_size = logits.shape[-1]
    assert isinstance(vocab_size, int)
    if num_top_ids > vocab_size:
        raise ExportError(
            f"The drafter keeps the {num_top_ids} likeliest tokens; the model has {vocab_size}.",
            "Give fewer candidates.",
        )
    all_logits = traced.graph.outputs.pop() if num_top_ids else None
    groups = _slot_groups(states)
    tapped = traced.graph.outputs[1 + 2 * len(states) :]
    read = traced.graph.inputs[3 + 2 * len(groups) + 2 * len(states) :]
    given = ports.carried_states if read else ports.hidden_states
    outputs = (ports.logits(vocab_size, dtype), *(given(_last_size(one), dtype) for one in tapped))
    inputs = (*ports.CAUSAL_INPUTS, *(ports.hidden_states(_last_size(one), dtype) for one in read))
    _name_ports(traced.graph, groups, states, inputs[len(ports.CAUSAL_INPUTS) :], outputs)
    _expand_masks(traced.graph, groups)
    chosen = _append_selection(traced.graph, all_logits, num_top_ids)
    outputs = (outputs[0], *chosen, *outputs[1:])
    if any(group.window is not None for group in groups):
        inputs = (*inputs, ports.WINDOW_OFFSET)
    _order_inputs(traced.graph, inputs, states)
    TidyPass()(traced)
    return inputs, outputs


def _last_size(value: ir.Value) -> int:
    assert value.shape is not None
    size = value.shape[-1]
    assert isinstance(size, int)
    return size


@dataclass(frozen=True)
class _SlotGroup:
    """The layers with one window, or those without: they share a capacity, a mask, and the slots that a round fills."""

    window: int | None
    """Their window."""
    capacity: str
    """The dimension of their slots."""
    cache: str
    """The port of one of their caches."""

    @property
    def suffix(self) -> str:
        return "" if self.window is None else f".window.{self.window}"

    @property
    def write_index(self) -> Port:
        """The input of the exporter's graph that stands for `write_index`."""
        return replace(ports.WRITE_INDEX, name=f"{ports.WRITE_INDEX.name}{self.suffix}")

    @property
    def mask(self) -> Port:
        """The mask input of the exporter's graph."""
        return Port(f"mask{self.suffix}", DType.BOOL, (ports.BATCH, 1, ports.NUM_TOKENS, self.capacity))


def _slot_groups(states: Sequence[LayerState]) -> list[_SlotGroup]:
    """The groups in the order of their masks in the exporter's graph: without a window first, then ascending."""
    found: dict[int | None, _SlotGroup] = {}
    for layer, state in enumerate(states):
        group = _SlotGroup(state.window, state.capacity, state.past_ports(layer)[0].name)
        found.setdefault(state.window, group)
    return [found[window] for window in sorted(found, key=lambda window: window or 0)]


def _name_ports(
    graph: ir.Graph,
    groups: Sequence[_SlotGroup],
    states: Sequence[LayerState],
    read: Sequence[Port],
    given: Sequence[Port],
) -> None:
    """Give the exporter's inputs and outputs the names and shapes of their ports."""
    past = [state.past_ports(layer) for layer, state in enumerate(states)]
    present = [state.present_ports(layer) for layer, state in enumerate(states)]
    incoming = [
        ports.INPUT_IDS,
        ports.POSITION_IDS,
        *(group.write_index for group in groups),
        ports.LOGITS_ROWS,
        *(group.mask for group in groups),
        *(key for key, _ in past),
        *(value for _, value in past),
        *read,
    ]
    outgoing = [given[0], *(key for key, _ in present), *(value for _, value in present), *given[1:]]
    for values, named in ((graph.inputs, incoming), (graph.outputs, outgoing)):
        assert len(values) == len(named)
        for value, port in zip(values, named, strict=True):
            describe(value, port)


def _expand_masks(graph: ir.Graph, groups: Sequence[_SlotGroup]) -> None:
    """Replace the inputs that are not ports by a prologue that computes them from the small ports."""
    named = {value.name: value for value in graph.inputs}
    small = (ports.TREE_MASK, ports.MASK_START, ports.ROW_COUNT, ports.WRITE_INDEX, ports.WINDOW_OFFSET)
    given = {port: named.get(port.name) or input_value(port) for port in small}
    piece = Piece("ptgc.attention_mask")
    mask = AttentionMask(
        piece,
        RoundPorts(
            given[ports.TREE_MASK],
            given[ports.MASK_START],
            given[ports.WRITE_INDEX],
            given[ports.ROW_COUNT],
            named[ports.POSITION_IDS.name],
        ),
    )
    write_index, offset = given[ports.WRITE_INDEX], given[ports.WINDOW_OFFSET]
    slides = any(group.window is not None for group in groups)
    first_slot = piece.op("Sub", write_index, offset) if slides else write_index
    for group in groups:
        slots = capacity(piece, named[group.cache])
        if group.window is None:
            made = mask.full(CacheSlots(slots))
        else:
            made = mask.window(CacheSlots(slots, offset), group.window)
            named[group.write_index.name].replace_all_uses_with(first_slot)
            graph.inputs.remove(named[group.write_index.name])
        _read_sizes_of(named[ports.INPUT_IDS.name], named[group.mask.name])
        named[group.mask.name].replace_all_uses_with(made)
        graph.inputs.remove(named[group.mask.name])
    graph.inputs.extend(value for port, value in given.items() if port.name not in named)
    piece.insert_at_start(graph)


def _read_sizes_of(ids: ir.Value, mask: ir.Value) -> None:
    """Read the round's sizes from the tokens instead of a mask, so that a backend may never compute the mask."""
    assert ids.shape is not None and mask.shape is not None
    for use in list(mask.uses()):
        start = use.node.attributes.get_int("start", 0)
        if use.node.op_type != "Shape" or use.node.attributes.get_int("end", 0) != start + 1:
            continue
        if mask.shape[start] in list(ids.shape):
            axis = list(ids.shape).index(mask.shape[start])
            use.node.replace_input_with(0, ids)
            use.node.attributes["start"] = ir.AttrInt64("start", axis)
            use.node.attributes["end"] = ir.AttrInt64("end", axis + 1)


def _append_selection(graph: ir.Graph, all_logits: ir.Value | None, num_top_ids: int) -> list[Port]:
    """Append the choice of tokens, and make its ports the outputs after the logits."""
    piece = Piece("ptgc.selection")
    chosen = [(argmax(piece, graph.outputs[0]), ports.NEXT_IDS)]
    if all_logits is not None:
        chosen.append((top_ids(piece, all_logits, num_top_ids), ports.top_ids(num_top_ids)))
    for value, port in chosen:
        describe(value, port)
    piece.append_to(graph)
    graph.outputs[1:1] = [value for value, _ in chosen]
    return [port for _, port in chosen]


def _order_inputs(graph: ir.Graph, inputs: Sequence[Port], states: Sequence[LayerState]) -> None:
    """Put inputs in the order of the ports: small ports, then the caches layer by layer; likewise outputs."""
    named = {value.name: value for value in graph.inputs}
    caches = [port for layer, state in enumerate(states) for port in state.past_ports(layer)]
    graph.inputs[:] = [named[port.name] for port in (*inputs, *caches)]  # no offset if nothing slides
    made = {value.name: value for value in graph.outputs}
    present = [port.name for layer, state in enumerate(states) for port in state.present_ports(layer)]
    others = [value for value in graph.outputs if value.name not in set(present)]
    graph.outputs[:] = [*others, *(made[name] for name in present)]
