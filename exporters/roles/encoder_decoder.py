"""The target role of the speculative loop, for a causal LM or an encoder-decoder, and the latter's encoder."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ptgc.errors import ExportError
from ptgc.exporters.modules.tap import tap_of
from ptgc.exporters.roles.base import RoleSource, TracedRole
from ptgc.exporters.roles.target import DTYPES, trace_target
from ptgc.exporters.tracing.cross_attention import (
    DecoderLayers,
    DecoderTrace,
    EncoderTrace,
    SourceCache,
    positions_from,
    probe_decoder,
    run_decoder,
    unread_source,
)
from ptgc.exporters.tracing.operators import gather_rows
from ptgc.exporters.tracing.probe import LayerCall
from ptgc.exporters.tracing.rehearsal import kept_tokens, round_mask, rounds_of, text_rows, token_ids
from ptgc.exporters.tracing.target_graph import finish_graph
from ptgc.exporters.tracing.trace import own_attention, standard_operators, tracing
from ptgc.exporters.tracing.traced_module import Call, trace_module
from ptgc.graphs.passes.tidy import TidyPass
from ptgc.graphs.values import describe
from ptgc.spec import ports
from ptgc.spec.attention import AttentionKind
from ptgc.spec.kv_cache import LayerState, StateKind
from ptgc.spec.ports import DType, Port

_ROUND = (ports.INPUT_IDS, ports.POSITION_IDS, ports.WRITE_INDEX, ports.LOGITS_ROWS)
_MASK = Port("mask", DType.BOOL, (ports.BATCH, 1, ports.NUM_TOKENS, ports.KV_CAPACITY))
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.2}  # relative to the largest logit


def export_target(source: RoleSource) -> TracedRole | None:
    """Trace a causal LM, or the decoder of an encoder-decoder."""
    model = source.module
    if not isinstance(model, PreTrainedModel):
        return None
    if model.config.is_encoder_decoder:
        if source.plan.drafter.taps:
            raise ExportError(f"{type(model).__name__} is an encoder-decoder; no drafter reads its hidden states yet.")
        if "encoder" not in source.traced:
            raise ExportError(
                f"{type(model).__name__} is an encoder-decoder; its encoder is a role of its own.",
                'Give the model for both: export(roles={"target": model, "encoder": model}, ...).',
            )
        return trace_decoder(model, source.attention, source.plan.drafter.num_top_ids)
    taps = [tap_of(source.modules[name]) for name in source.plan.drafter.roles if source.plan.drafter.taps]
    tap, num_top_ids = taps[0] if taps else None, source.plan.drafter.num_top_ids
    return trace_target(model, source.attention, tap=tap, num_top_ids=num_top_ids)


def export_encoder(source: RoleSource) -> TracedRole | None:
    """Trace the encoder of an encoder-decoder, up to the keys and values that its decoder attends to.

    Raises:
        ExportError: The model has no encoder, or cannot become a standard graph.
    """
    model = source.module
    if not isinstance(model, PreTrainedModel):
        return None
    if not model.config.is_encoder_decoder:
        raise ExportError(f"{type(model).__name__} has no encoder.", "Leave the role 'encoder' out.")
    layers, inputs = probe_decoder(model), (ports.SOURCE_IDS, ports.ENCODER_ATTENTION_MASK)
    states = _states(layers.source, StateKind.CROSS, model)
    with standard_operators(model):
        traced = trace_module(model, inputs, _encode(layers))
    made = [port for layer, state in enumerate(states) for port in state.present_ports(layer)]
    for value, port in zip(traced.graph.outputs, made, strict=True):
        describe(value, port)
    TidyPass()(traced)  # removes the decoder, none of whose outputs is used
    return TracedRole(traced, inputs, (), cross_states=states)


def _encode(layers: DecoderLayers) -> Call:
    def call(model: PreTrainedModel, input_ids: Tensor, mask: Tensor) -> list[Tensor]:
        trace = EncoderTrace(mask, layers.cross, set(layers.encoder.modules()))
        with tracing(trace):
            hidden = layers.encoder(input_ids=input_ids).last_hidden_state
            run_decoder(model, input_ids[:, :1], hidden, None)
        return [x for pair in zip(trace.keys, trace.values, strict=True) for x in pair]

    return call


def trace_decoder(
    model: PreTrainedModel, attention: AttentionKind = AttentionKind.CAUSAL, num_top_ids: int = 0
) -> TracedRole:
    """Trace the decoder of an encoder-decoder over its caches and over the keys and values of the source.

    Args:
        model: The encoder-decoder.
        attention: What the rows of a round may see of each other.
        num_top_ids: How many of the likeliest tokens after every row it gives.

    Raises:
        ExportError: Part of it cannot become a standard graph, or gives another text in rounds.
    """
    layers = probe_decoder(model)
    _rehearse(model, layers, _decode(layers), attention)
    states = _states(layers.text, StateKind.FULL, model)
    cross = _states(layers.source, StateKind.CROSS, model)
    own = [state.past_ports(layer) for layer, state in enumerate(states)]
    read = [port for layer, state in enumerate(cross) for port in state.past_ports(layer)]
    caches = [*(key for key, _ in own), *(value for _, value in own)]
    call = _decode(layers, gives_all_logits=num_top_ids > 0)
    with standard_operators(model):
        traced = trace_module(model, (*_ROUND, _MASK, *caches, ports.ENCODER_ATTENTION_MASK, *read), call)
    graph = traced.graph
    of_source = list(graph.inputs)[-len(read) - 1 :]  # unknown to finish_graph
    graph.inputs[:] = list(graph.inputs)[: -len(of_source)]
    inputs, outputs = finish_graph(traced, states, DTYPES[model.dtype], num_top_ids)
    graph.inputs.extend(of_source)
    return TracedRole(traced, (*inputs, ports.ENCODER_ATTENTION_MASK), outputs, states, cross, attention)


def _states(layers: Sequence[LayerCall], kind: StateKind, model: PreTrainedModel) -> tuple[LayerState, ...]:
    return tuple(LayerState(kind, layer.kv_heads, layer.head_dim, DTYPES[model.dtype]) for layer in layers)


def _decode(layers: DecoderLayers, *, gives_all_logits: bool = False) -> Call:
    count = len(layers.text)

    def call(
        model: PreTrainedModel,
        input_ids: Tensor,  # [batch, num_tokens]
        position_ids: Tensor,  # [batch, num_tokens]
        write_index: Tensor,  # [batch]
        logits_rows: Tensor,  # [batch, num_logits]
        mask: Tensor,  # [batch, 1, num_tokens, kv_capacity]
        *rest: Tensor,  # keys, values, the source's mask [batch, source_length], its keys and values alternately
    ) -> list[Tensor]:
        keys, values, (source_mask, *cross) = rest[:count], rest[count : 2 * count], rest[2 * count :]
        trace = DecoderTrace(
            keys, values, [write_index] * count, [mask] * count, source_mask=source_mask, cross=layers.cross
        )
        body = model.base_model
        assert isinstance(body, nn.Module)

        def choose_rows(_module: nn.Module, _inputs: object, output: object) -> object:
            output.last_hidden_state = gather_rows(output.last_hidden_state, logits_rows)  # type: ignore[attr-defined]
            return output

        with ExitStack() as hooks, tracing(trace), positions_from(model, position_ids):
            if not gives_all_logits:
                hooks.callback(body.register_forward_hook(choose_rows).remove)
            cache = SourceCache(cross[0::2], cross[1::2])
            logits = run_decoder(model, input_ids, unread_source(model, cross[0]), cache)
        made = [*trace.new_keys, *trace.new_values]
        return [gather_rows(logits, logits_rows), *made, logits] if gives_all_logits else [logits, *made]

    return call


@torch.no_grad()
def _rehearse(model: PreTrainedModel, layers: DecoderLayers, call: Call, attention: AttentionKind) -> None:
    """Read a short text in rounds; its logits must be those of the model on the whole text.

    Raises:
        ExportError: They differ: the decoder has state that is lost between rounds.
    """
    rounds = rounds_of(attention)
    ids = [token_ids(model, one.count, seed) for seed, one in enumerate(rounds)]
    source, text = torch.tensor([token_ids(model, 5, len(ids))]), torch.tensor([kept_tokens(ids, rounds)])
    expected = model(input_ids=source, decoder_input_ids=text).logits[0]
    capacity = max(one.write_index + one.count for one in rounds)
    source_mask = torch.ones_like(source, dtype=torch.bool)
    with own_attention(model):
        cross = _encode(layers)(model, source, source_mask)
        state = [torch.zeros(1, one.kv_heads, capacity, one.head_dim, dtype=model.dtype) for one in layers.text * 2]
        logits = []
        for tokens, given in zip(ids, rounds, strict=True):
            rows = torch.arange(given.count)[None]
            start = torch.tensor([given.write_index])
            values = (torch.tensor([tokens]), torch.tensor([given.positions]), start, rows)
            out, *state = call(model, *values, round_mask(given, None, capacity), *state, source_mask, *cross)
            logits.append(out[0])
    found = text_rows(logits, rounds)
    error = (found.float() - expected.float()).abs().max()
    if not error <= _TOLERANCE[model.dtype] * expected.float().abs().max():
        raise ExportError(
            f"{type(model).__name__} cannot be exported: read in rounds over a cache, its decoder's logits differ by "
            f"{float(error):.3g} from those of the whole text.",
            "docs/support.md lists what can be exported.",
        )
