"""The original PyTorch modules as roles of the numpy loops, including the operators appended to their graphs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from ptgc.errors import ExportError
from ptgc.exporters.model_facts import eos_token_ids, start_token_id
from ptgc.exporters.own_code import own_code_errors
from ptgc.exporters.roles.denoiser import attend, attend_kept, denoise, reads_rounds, reads_time
from ptgc.exporters.roles.one_shot import encode
from ptgc.exporters.roles.own_policy import own_policy
from ptgc.exporters.tracing.traced_module import Call, call_module
from ptgc.graphs import reference
from ptgc.graphs.canvas.reference import OwnScores, choose
from ptgc.graphs.reference_loops import RoleCall, Values, write_greedily
from ptgc.spec import ports
from ptgc.spec.canvas import CanvasPlan
from ptgc.spec.plan import DecodePlan

Operation = Callable[..., tuple[NDArray[Any], NDArray[Any]]]
OPERATIONS: Mapping[str, tuple[Operation, str]] = {
    "deleter": (reference.delete_tokens, "bos_token_id"),
    "inserter": (reference.insert_placeholders, "placeholder_token_id"),
    "filler": (reference.fill_placeholders, "placeholder_token_id"),
    "token_inserter": (reference.insert_tokens, "stop_token_id"),
}
"""For each role of the edit loop, how it edits a canvas by its module's scores, and which token it needs."""
_HIDDEN_STATES = "encoder_hidden_states"


def original_roles(modules: Mapping[str, nn.Module], plan: DecodePlan) -> dict[str, RoleCall]:
    """The roles of any loop except the speculative one.

    Args:
        modules: The modules by role.
        plan: The loop and its policies.

    Raises:
        ExportError: An operation is unknown, or lacks its token.
    """
    if plan.canvas is not None:
        module = modules["denoiser"]
        own = own_policy(modules, plan.canvas)
        if reads_rounds(module, plan.canvas) and plan.canvas.approximates:
            return {"denoiser": _keeping_denoiser(module, plan.canvas, own)}
        if reads_rounds(module, plan.canvas):
            return {"denoiser": _round_denoiser(module, plan.canvas, own)}
        return {"denoiser": _denoiser(module, plan.canvas, own)}
    found = {"encoder": _encoder(modules["encoder"])} if "encoder" in modules else {}
    if plan.edit is not None:
        return found | {name: _operation(name, modules[name], plan) for name in plan.edit.operations}
    return found | {"decoder": _decoder(modules["decoder"], plan)}


def greedy_text(
    model: PreTrainedModel, prompt: Sequence[int], count: int, source: Sequence[int] = ()
) -> tuple[list[int], NDArray[np.float32]]:
    """Greedy text over the model's own cache: the new tokens, and the logits that each was chosen from.

    Only the model's end tokens stop it; the checkpoint's other generation settings do not apply.

    Args:
        model: A transformers model, or a compatible one.
        prompt: The beginning of the text; for an encoder-decoder its start token.
        count: Maximum number of tokens.
        source: The encoder's input.

    Raises:
        ExportError: Code that came with the checkpoint failed.
    """
    return write_greedily(_target(model, source), prompt, count, eos_token_ids(model))


def translate(model: PreTrainedModel, source: Sequence[int], count: int) -> tuple[list[int], NDArray[np.float32]]:
    """Greedy text of an encoder-decoder; see `greedy_text`."""
    return greedy_text(model, [start_token_id(model)], count, source)


@torch.no_grad()
def _target(model: PreTrainedModel, source: Sequence[int]) -> RoleCall:
    text: list[int] = []
    named: dict[str, Any] = {"use_cache": True}
    if source:
        named["encoder_outputs"] = model.get_encoder()(input_ids=torch.tensor([source]))

    def run(values: Values) -> Values:
        text.extend(values[ports.INPUT_IDS.name][0].tolist())
        cached = "past_key_values" in named
        ids = torch.from_numpy(values[ports.INPUT_IDS.name]) if cached else torch.tensor([text])
        given = {"decoder_input_ids": ids} if source else _prompt(ids, len(text))
        with own_code_errors(model), torch.no_grad():
            made = model(**given, **named)
        if (cache := getattr(made, "past_key_values", None)) is not None:
            named["past_key_values"] = cache
        return {"logits": _array(made.logits[:, -1:])}

    return run


def _prompt(ids: Tensor, length: int) -> dict[str, Tensor]:
    return {"input_ids": ids, "attention_mask": torch.ones(1, length, dtype=torch.long)}


def _denoiser(module: nn.Module, plan: CanvasPlan, own: OwnScores | None) -> RoleCall:
    def run(values: Values) -> Values:
        ids = values[ports.CANVAS_IDS.name]
        time = [torch.from_numpy(values[ports.TIME.name])] if reads_time(module) else []  # float32 in every model
        logits = _scores(module, lambda *given: denoise(*given, *time), ids, values[ports.LENGTHS.name])
        return choose(logits, ids, values, plan, own)

    return run


def _round_denoiser(module: PreTrainedModel, plan: CanvasPlan, own: OwnScores | None) -> RoleCall:
    """Without a cache: all of a text is read, and with blocks, none sees later ones."""
    text: list[int] = []

    def run(values: Values) -> Values:
        ids, start = values[ports.INPUT_IDS.name], int(values[ports.WRITE_INDEX.name][0])
        text[start:] = ids[0].tolist()
        rows = start + values[ports.LOGITS_ROWS.name][0]
        logits = _scores(module, lambda _, ids: attend(module, ids, plan), np.array([text], np.int64))[:, rows]
        return choose(logits, values[ports.COLUMN_IDS.name], values, plan, own)

    return run


def _keeping_denoiser(module: PreTrainedModel, plan: CanvasPlan, own: OwnScores | None) -> RoleCall:
    """Over the module's own cache, whose slots from the first row on are written anew."""
    cache = DynamicCache()

    def run(values: Values) -> Values:
        positions, start = torch.from_numpy(values[ports.POSITION_IDS.name]), int(values[ports.WRITE_INDEX.name][0])
        if (dropped := cache.get_seq_length() - start) > 0:
            cache.crop(-dropped)
        logits = _scores(module, partial(attend_kept, positions=positions, cache=cache), values[ports.INPUT_IDS.name])
        rows = values[ports.LOGITS_ROWS.name][0]
        return choose(logits[:, rows], values[ports.COLUMN_IDS.name], values, plan, own)

    return run


def _encoder(module: nn.Module) -> RoleCall:
    def run(values: Values) -> Values:
        given = [values[port.name] for port in (ports.SOURCE_IDS, ports.ENCODER_ATTENTION_MASK)]
        return {_HIDDEN_STATES: _scores(module, encode, *given)}

    return run


def _operation(name: str, module: nn.Module, plan: DecodePlan) -> RoleCall:
    if name not in OPERATIONS:
        known = ", ".join(OPERATIONS)
        raise ExportError(f"The edit loop has no operation '{name}'; it has {known}.", "Change plan.edit.operations.")
    operation, token = OPERATIONS[name]
    if getattr(plan.edit, token) is None:
        raise ExportError(f"The operation '{name}' needs plan.edit.{token}.", "Give it in the plan's EditPlan.")

    def run(values: Values) -> Values:
        ids, lengths = values[ports.CANVAS_IDS.name], values[ports.LENGTHS.name]
        length = int(lengths[0])
        read = [values[one] for one in (_HIDDEN_STATES, ports.ENCODER_ATTENTION_MASK.name) if one in values]
        found = _scores(module, call_module, ids[:, :length], lengths, *read)
        scores = np.zeros((*ids.shape, found.shape[-1]), np.float32)
        scores[:, :length] = found  # the original is run without padding
        return _written(operation(scores, ids, lengths, plan.edit))

    return run


def _decoder(module: nn.Module, plan: DecodePlan) -> RoleCall:
    assert plan.one_shot is not None
    upsampling, blank_token_id = plan.one_shot.upsampling, plan.one_shot.blank_token_id

    def run(values: Values) -> Values:
        mask = values[ports.ENCODER_ATTENTION_MASK.name]
        logits = _scores(module, call_module, values[_HIDDEN_STATES], mask)
        if logits.shape[1] != upsampling * mask.shape[1]:
            raise ExportError(
                f"{type(module).__name__} gives {logits.shape[1]} rows for {mask.shape[1]} tokens; the plan says "
                f"{upsampling} for each (one_shot.upsampling)."
            )
        return _written(reference.collapse(logits, mask, upsampling, blank_token_id))

    return run


def _written(made: tuple[NDArray[Any], NDArray[Any]]) -> Values:
    return {ports.OUTPUT_IDS.name: made[0], ports.OUTPUT_LENGTHS.name: made[1]}


@torch.no_grad()
def _scores(module: nn.Module, call: Call, *given: NDArray[Any]) -> NDArray[np.float32]:
    dtype = next(module.parameters()).dtype
    tensors = [torch.from_numpy(array) for array in given]
    return _array(call(module, *(one.to(dtype) if one.is_floating_point() else one for one in tensors)))


def _array(tensor: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = tensor.detach().float().numpy()
    return array
