"""The roles of the one-shot loop: an encoder, and a decoder whose rows become a text in the graph."""

from __future__ import annotations

from typing import Any

import onnx_ir as ir
from torch import Tensor, nn
from transformers import PreTrainedModel

from ptgc.errors import ExportError
from ptgc.exporters.model_facts import context_of
from ptgc.exporters.roles.base import RoleSource, TracedRole
from ptgc.exporters.tracing.traced_module import DTYPES, standard_attention, trace_module
from ptgc.graphs.ctc import collapse
from ptgc.graphs.passes.tidy import TidyPass
from ptgc.graphs.piece import Piece
from ptgc.graphs.values import describe
from ptgc.spec import ports
from ptgc.spec.ports import Port


def encode(module: nn.Module, input_ids: Tensor, encoder_attention_mask: Tensor) -> Tensor:
    """Rows `[batch, source_length, hidden]` of a source.

    Args:
        module: An encoder of transformers, or a module with these arguments.
        input_ids: int64 `[batch, source_length]`.
        encoder_attention_mask: bool `[batch, source_length]`, False after the source.
    """
    if not isinstance(module, PreTrainedModel):
        rows: Tensor = module(input_ids, encoder_attention_mask)
        return rows
    found: Any = module(input_ids=input_ids, attention_mask=encoder_attention_mask[:, None, None, :])
    hidden: Tensor = found.last_hidden_state
    return hidden


def export_encoder(source: RoleSource) -> TracedRole:
    """Trace an encoder whose output other roles read."""
    inputs = (ports.SOURCE_IDS, ports.ENCODER_ATTENTION_MASK)
    longest = {ports.SOURCE_LENGTH: context_of(source.module)}
    with standard_attention(source.module):
        model = trace_module(source.module, inputs, encode, longest)
    rows = only_output(model, source, "rows [batch, source_length, hidden_size]")
    assert rows.shape is not None
    hidden_size = rows.shape[-1]
    assert isinstance(hidden_size, int)
    output = ports.encoder_hidden_states(hidden_size, DTYPES[next(source.module.parameters()).dtype])
    describe(rows, output)
    TidyPass()(model)
    return TracedRole(model, inputs, (output,))


def export_decoder(source: RoleSource) -> TracedRole:
    """Trace a decoder of CTC rows and append the operators that collapse them."""
    plan = source.plan.one_shot
    assert plan is not None, "a plan of the one-shot loop has its policies"
    inputs = source_ports(source)
    with standard_attention(source.module):
        model = trace_module(source.module, inputs)
    logits = only_output(model, source, "logits [batch, upsampling * source_length, vocab]")
    piece = Piece("ptgc.ctc")
    made = collapse(piece, logits, model.graph.inputs[1], plan.upsampling, plan.blank_token_id)
    outputs = (ports.OUTPUT_IDS, ports.OUTPUT_LENGTHS)
    finish(model, piece, made, outputs)
    return TracedRole(model, inputs, outputs)


def source_ports(source: RoleSource) -> tuple[Port, Port]:
    """The ports through which a role reads the encoder that was traced before it."""
    return source.traced["encoder"].outputs[0], ports.ENCODER_ATTENTION_MASK


def only_output(model: ir.Model, source: RoleSource, wanted: str) -> ir.Value:
    """The one output of a traced module, `[batch, rows, columns]`.

    Raises:
        ExportError: There are several outputs, or it has another number of dimensions.
    """
    outputs = model.graph.outputs
    first = outputs[0]
    if len(outputs) != 1 or first.shape is None or len(first.shape) != 3:
        raise ExportError(
            f"{type(source.module).__name__} gives {len(outputs)} outputs, the first of shape {first.shape}; the role "
            f"'{source.name}' must give {wanted}, and nothing else.",
            "docs/adding-a-model.md says what a module must look like.",
        )
    return first


def finish(model: ir.Model, piece: Piece, made: tuple[ir.Value, ...], outputs: tuple[Port, ...]) -> None:
    """Append a piece after a traced module and make its values the outputs."""
    piece.append_to(model.graph)
    model.graph.outputs[:] = made
    for value, port in zip(made, outputs, strict=True):
        describe(value, port)
    TidyPass()(model)
