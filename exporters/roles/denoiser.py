"""The denoiser role: a masked language model that fills positions of a canvas."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeGuard

import onnx_ir as ir
import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from ptgc.errors import ExportError
from ptgc.exporters.model_facts import context_of
from ptgc.exporters.own_code import AttendToValid, is_own_code, own_code_errors
from ptgc.exporters.roles.base import RoleSource, TracedRole
from ptgc.exporters.roles.one_shot import finish, only_output
from ptgc.exporters.roles.own_policy import trace_policy
from ptgc.exporters.roles.target import trace_target
from ptgc.exporters.tracing.traced_module import standard_attention, trace_module
from ptgc.graphs.canvas.choose import choose
from ptgc.graphs.passes.tidy import TidyPass
from ptgc.graphs.piece import Piece
from ptgc.graphs.placement import positions_below
from ptgc.graphs.values import describe, input_value
from ptgc.spec import ports
from ptgc.spec.attention import AttentionKind
from ptgc.spec.canvas import CanvasCache, CanvasPlan
from ptgc.spec.kv_cache import StateKind
from ptgc.spec.role_ports import policy_inputs, policy_outputs

_PROBED = 4  # positions of a text that shows whether a model looks ahead
_TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.2}  # relative to the largest logit


def reads_time(module: nn.Module) -> bool:
    """Whether a module takes the noise level of its text: its class says so by `reads_time`."""
    return bool(getattr(module, "reads_time", False))


def denoise(module: nn.Module, input_ids: Tensor, lengths: Tensor, *time: Tensor) -> Tensor:
    """Logits `[batch, canvas_length, vocab]` of every position, given the positions below the length.

    Args:
        module: A masked LM of transformers, or a module with these arguments.
        input_ids: int64 `[batch, canvas_length]`.
        lengths: int64 `[batch]`.
        time: Of a module that reads it, float32 `[batch]`; see `ports.TIME`.
    """
    if not isinstance(module, PreTrainedModel):
        logits: Tensor = module(input_ids, lengths, *time)
        return logits
    valid = torch.arange(input_ids.shape[1]) < lengths[:, None]
    if is_own_code(module):
        with own_code_errors(module), AttendToValid(valid):
            own: Tensor = module(input_ids=input_ids, attention_mask=valid.long()).logits
        return own
    named: dict[str, Any] = {"time": time[0], "use_cache": False} if time else {}
    found: Any = module(input_ids=input_ids, attention_mask=_mask(module, valid[:, None, None, :]), **named)
    result: Tensor = found.logits
    return result


def _mask(module: PreTrainedModel, seen: Tensor) -> Tensor:
    """What positions see, bool, as a model of transformers takes it: eager attention adds its mask to the scores."""
    if module.config._attn_implementation != "eager":
        return seen
    dtype = next(module.parameters()).dtype
    return torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)


def attend(module: PreTrainedModel, input_ids: Tensor, plan: CanvasPlan) -> Tensor:
    """Logits `[batch, length, vocab]` of a language model that sees what a canvas lets it see.

    Args:
        module: A language model of transformers.
        input_ids: int64 `[batch, length]`; all texts are that long.
        plan: Whether every position sees all others, or only those up to the end of its block.
    """
    length = input_ids.shape[1]
    seen = torch.ones(1, 1, length, length, dtype=torch.bool)
    if plan.keeps_blocks:
        block = torch.arange(length) // plan.block_length
        seen[0, 0] = block[:, None] >= block
    logits: Tensor = module(input_ids=input_ids, attention_mask=_mask(module, seen), use_cache=False).logits
    return logits


def attend_kept(module: PreTrainedModel, input_ids: Tensor, positions: Tensor, cache: DynamicCache) -> Tensor:
    """Logits `[batch, rows, vocab]` of rows that all see each other and what a cache holds, and are added to it.

    Args:
        module: A language model of transformers.
        input_ids: int64 `[batch, rows]`.
        positions: Their positions, of the same shape.
        cache: The keys and values of other positions.
    """
    batch, count = input_ids.shape
    seen = torch.ones(batch, 1, count, cache.get_seq_length() + count, dtype=torch.bool)
    given = {"input_ids": input_ids, "position_ids": positions, "attention_mask": _mask(module, seen)}
    logits: Tensor = module(**given, past_key_values=cache, use_cache=True).logits
    return logits


def reads_rounds(module: nn.Module, plan: CanvasPlan) -> TypeGuard[PreTrainedModel]:
    """Whether a module is traced as a language model, which reads rows over a cache; others read whole texts."""
    if not isinstance(module, PreTrainedModel) or reads_time(module):
        return False
    return plan.keeps_blocks or (module.can_generate() and not is_own_code(module))


def export_denoiser(source: RoleSource) -> TracedRole:
    """Trace the model and append the operators that choose and fill positions."""
    canvas, module = source.plan.canvas, source.module
    assert canvas is not None, "a plan of the canvas loop has its policies"
    if reads_rounds(module, canvas):
        return _export_round_denoiser(source, module, canvas)
    if canvas.cache is not CanvasCache.NONE:
        raise ExportError(
            f"{type(module).__name__} has no cache: only a language model of transformers reads a text in parts, and "
            "only if it does not read the noise level of the whole.",
            "Export it with the strategy masked-diffusion, which reads the whole canvas every round.",
        )
    given_ports = (ports.CANVAS_IDS, ports.LENGTHS, *((ports.TIME,) if reads_time(module) else ()))
    if isinstance(module, PreTrainedModel):
        _check_padding(module, canvas.mask_token_id)
    longest = {ports.CANVAS_LENGTH: context_of(module)}
    with standard_attention(module):
        model = trace_module(module, given_ports, denoise, longest)
    logits = only_output(model, source, "logits [batch, canvas_length, vocab]")
    _check_sees_ahead(module, lambda ids: _whole(module, ids, ids.shape[1]))
    graph = model.graph
    ids, lengths, *_ = graph.inputs
    policy, outputs = policy_inputs(canvas, columns=False), policy_outputs(canvas, columns=False)
    given = {port.name: input_value(port) for port in policy}
    graph.inputs.extend(given.values())
    piece = Piece("ptgc.unmasking")
    mask = piece.op("And", given[ports.CANVAS_MASK.name], positions_below(piece, ids, lengths))
    own = trace_policy(source.modules, canvas, _size(logits), ports.CANVAS_LENGTH)
    filled = choose(piece, logits, ids, given | {ports.CANVAS_MASK.name: mask}, canvas, own)
    finish(model, piece, filled.values[: len(outputs)], outputs)
    return TracedRole(model, (*given_ports, *policy), outputs)


def _size(logits: ir.Value) -> int:
    assert logits.shape is not None
    size = logits.shape[-1]
    assert isinstance(size, int)
    return size


def _export_round_denoiser(source: RoleSource, module: PreTrainedModel, plan: CanvasPlan) -> TracedRole:
    """Trace a language model, some of whose rows decide the tokens of positions."""
    traced = trace_target(module, AttentionKind.BLOCK)
    if plan.approximates and any(state.kind is StateKind.WINDOW for state in traced.states):
        raise ExportError(
            f"{type(module).__name__} has layers with sliding windows, whose caches hold positions in their order; the "
            f"cache '{plan.cache.value}' orders them by when they are kept.",
            "Export it without a cache.",
        )
    _check_sees_ahead(module, lambda ids: attend(module, ids, plan), plan.block_length if plan.keeps_blocks else None)
    graph = traced.model.graph
    columns, outputs = (ports.COLUMN_IDS, *policy_inputs(plan, columns=True)), policy_outputs(plan, columns=True)
    given = {port.name: input_value(port) for port in columns}
    graph.inputs[:] = [*graph.inputs[: len(traced.inputs)], *given.values(), *graph.inputs[len(traced.inputs) :]]
    piece = Piece("ptgc.unmasking")
    logits = next(value for value in graph.outputs if value.name == "logits")
    own = trace_policy(source.modules, plan, _size(logits), ports.NUM_LOGITS)
    filled = choose(piece, logits, given[ports.COLUMN_IDS.name], given, plan, own)
    piece.append_to(graph)
    made = filled.values[: len(outputs)]
    graph.outputs[:] = [*made, *graph.outputs[len(traced.outputs) :]]
    for value, port in zip(made, outputs, strict=True):
        describe(value, port)
    TidyPass()(traced.model)
    return replace(traced, inputs=(*traced.inputs, *columns), outputs=outputs)


def _whole(module: nn.Module, ids: Tensor, length: int) -> Tensor:
    """Logits of texts of this length, at the highest noise level."""
    batch = len(ids)
    return denoise(module, ids, torch.full((batch,), length), *([torch.ones(batch)] if reads_time(module) else []))


@torch.no_grad()
def _check_padding(module: PreTrainedModel, mask_token_id: int) -> None:
    """Check that padding at the end of a canvas does not change the model's predictions.

    Raises:
        ExportError: It does.
    """
    text = [mask_token_id, 1, 2, mask_token_id]
    alone = _whole(module, torch.tensor([text]), len(text)).float()
    padded = _whole(module, torch.tensor([[*text, 3, 3, 3]]), len(text))[:, : len(text)].float()
    difference = float((alone - padded).abs().max())
    if not difference <= _TOLERANCE[next(module.parameters()).dtype] * float(alone.abs().max()):
        raise ExportError(
            f"{type(module).__name__} cannot fill a canvas: its logits change by {difference:.3g} with the padding "
            "behind a text, so it attends to what its attention_mask rules out.",
            "docs/adding-a-model.md says what a module must look like.",
        )


@torch.no_grad()
def _check_sees_ahead(module: nn.Module, run: Callable[[Tensor], Tensor], block_length: int | None = None) -> None:
    """Check, with texts that differ in one token, how far ahead the model looks.

    Args:
        module: The model, for the message.
        run: Texts `[batch, length]` to logits.
        block_length: Positions of a block, which sees no later block; None if all positions see each other.

    Raises:
        ExportError: It is causal, or sees later blocks.
    """
    end = block_length or _PROBED
    changed = [one for one in (1, end - 1, end) if block_length is not None or one < end]
    texts = torch.ones(1 + len(changed), max(changed) + 1, dtype=torch.int64)
    texts[torch.arange(1, len(texts)), changed] = 2
    with own_code_errors(module):
        logits = run(texts)[:, 0].float()  # of the first position
    size = float(logits.abs().max())
    ahead = [other for place, other in zip(changed, logits[1:], strict=True) if place < end]
    if end > 1 and all(torch.equal(logits[0], other) for other in ahead):
        raise ExportError(
            f"{type(module).__name__} is causal: what it predicts does not depend on tokens that come later, which a "
            "model that fills a canvas must see.",
            "Write its texts token by token, for example with --strategy ngram.",
        )
    difference = 0.0 if block_length is None else float((logits[0] - logits[-1]).abs().max())
    if not difference <= _TOLERANCE[next(module.parameters()).dtype] * size:
        raise ExportError(
            f"{type(module).__name__} sees later blocks: with blocks of {block_length} positions, its logits in the "
            f"first one change by {difference:.3g} with a token of the second, so finished blocks cannot be kept.",
            "Export it with --strategy masked-diffusion.",
        )
