"""The denoiser role: a masked language model that fills positions of a canvas by confidence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ptgc.errors import ExportError
from ptgc.exporters.model_facts import context_of
from ptgc.exporters.own_code import AttendToValid, is_own_code, own_code_errors
from ptgc.exporters.roles.base import RoleSource, TracedRole
from ptgc.exporters.roles.one_shot import finish, only_output
from ptgc.exporters.roles.target import trace_target
from ptgc.exporters.tracing.traced_module import standard_attention, trace_module
from ptgc.graphs.canvas import CanvasPorts, fill_most_confident
from ptgc.graphs.passes.tidy import TidyPass
from ptgc.graphs.piece import Piece
from ptgc.graphs.placement import columns_of
from ptgc.graphs.values import describe, input_value
from ptgc.spec import ports
from ptgc.spec.attention import AttentionKind
from ptgc.spec.canvas import CanvasCache, CanvasPlan

_INPUTS = (ports.CANVAS_IDS, ports.LENGTHS, ports.CANVAS_MASK, ports.STEP, ports.THRESHOLD)
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.2}  # relative to the largest logit
_OUTPUTS = (ports.OUTPUT_IDS, ports.OUTPUT_MASK, ports.CONFIDENCE)


def denoise(module: nn.Module, input_ids: Tensor, lengths: Tensor) -> Tensor:
    """Logits `[batch, canvas_length, vocab]` of every position, given the positions below the length.

    Args:
        module: A masked LM of transformers, or a module with these arguments.
        input_ids: int64 `[batch, canvas_length]`.
        lengths: int64 `[batch]`.
    """
    if not isinstance(module, PreTrainedModel):
        logits: Tensor = module(input_ids, lengths)
        return logits
    valid = torch.arange(input_ids.shape[1]) < lengths[:, None]
    if is_own_code(module):
        with own_code_errors(module), AttendToValid(valid):
            own: Tensor = module(input_ids=input_ids, attention_mask=valid.long()).logits
        return own
    found: Any = module(input_ids=input_ids, attention_mask=valid[:, None, None, :])
    result: Tensor = found.logits
    return result


def export_denoiser(source: RoleSource) -> TracedRole | None:
    """Trace the model and append the operators that choose and fill positions."""
    canvas = source.plan.canvas
    assert canvas is not None, "a plan of the canvas loop has its policies"
    if canvas.cache is CanvasCache.BLOCK:
        return _export_block_denoiser(source.module, canvas) if isinstance(source.module, PreTrainedModel) else None
    if isinstance(source.module, PreTrainedModel):
        _check_padding(source.module, canvas.mask_token_id)
    longest = {ports.CANVAS_LENGTH: context_of(source.module)}
    with standard_attention(source.module):
        model = trace_module(source.module, (ports.CANVAS_IDS, ports.LENGTHS), denoise, longest)
    logits = only_output(model, source, "logits [batch, canvas_length, vocab]")
    graph = model.graph
    graph.inputs.extend(input_value(port) for port in _INPUTS[2:])
    piece = Piece("ptgc.unmasking")
    filled = fill_most_confident(piece, logits, CanvasPorts(*graph.inputs), canvas.mask_token_id)
    finish(model, piece, (filled.output_ids, filled.output_mask, filled.confidence), _OUTPUTS)
    return TracedRole(model, _INPUTS, _OUTPUTS)


def _export_block_denoiser(module: PreTrainedModel, plan: CanvasPlan) -> TracedRole:
    """Trace a language model whose rows predict their own positions, over a cache of the previous blocks."""
    traced = trace_target(module, AttentionKind.BLOCK)
    graph = traced.model.graph
    named = {value.name: value for value in (*graph.inputs, *graph.outputs)}
    all_rows = Piece("ptgc.rows")
    rows = columns_of(all_rows, named[ports.INPUT_IDS.name])
    rows = all_rows.op("Expand", rows, all_rows.op("Shape", named[ports.INPUT_IDS.name]))
    all_rows.insert_at_start(graph)
    named[ports.LOGITS_ROWS.name].replace_all_uses_with(rows)
    graph.inputs.remove(named[ports.LOGITS_ROWS.name])
    policy = (ports.BLOCK_MASK, ports.STEP, ports.THRESHOLD)
    round_ports = tuple(port for port in traced.inputs if port != ports.LOGITS_ROWS)
    given = [input_value(port) for port in policy]
    graph.inputs[:] = [*graph.inputs[: len(round_ports)], *given, *graph.inputs[len(round_ports) :]]
    piece = Piece("ptgc.unmasking")
    canvas = CanvasPorts(named[ports.INPUT_IDS.name], named[ports.ROW_COUNT.name], *given)
    filled = fill_most_confident(piece, named["logits"], canvas, plan.mask_token_id)
    piece.append_to(graph)
    outputs = (ports.BLOCK_IDS, ports.BLOCK_LEFT, ports.BLOCK_CONFIDENCE)
    made = (filled.output_ids, filled.output_mask, filled.confidence)
    graph.outputs[:] = [*made, *graph.outputs[len(traced.outputs) :]]
    for value, port in zip(made, outputs, strict=True):
        describe(value, port)
    TidyPass()(traced.model)
    return replace(traced, inputs=(*round_ports, *policy), outputs=outputs)


@torch.no_grad()
def _check_padding(module: PreTrainedModel, mask_token_id: int) -> None:
    """Check that padding at the end of a canvas does not change the model's predictions.

    Raises:
        ExportError: It does.
    """
    text, length = [mask_token_id, 1, 2, mask_token_id], torch.tensor([4])
    alone = denoise(module, torch.tensor([text]), length).float()
    padded = denoise(module, torch.tensor([[*text, 3, 3, 3]]), length)[:, : len(text)].float()
    difference = float((alone - padded).abs().max())
    if not difference <= _TOLERANCE[next(module.parameters()).dtype] * float(alone.abs().max()):
        raise ExportError(
            f"{type(module).__name__} cannot fill a canvas: its logits change by {difference:.3g} with the padding "
            "behind a text, so it attends to what its attention_mask rules out.",
            "docs/adding-a-model.md says what a module must look like.",
        )
