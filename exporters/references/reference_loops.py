"""Every loop as a few lines of PyTorch on the original modules, one text at a time: what builds are checked against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ptgc.errors import ExportError
from ptgc.exporters.model_facts import eos_token_ids, start_token_id
from ptgc.exporters.own_code import own_code_errors
from ptgc.exporters.roles.denoiser import denoise
from ptgc.exporters.roles.one_shot import encode
from ptgc.spec.canvas import CanvasPlan
from ptgc.spec.edit import EditPlan
from ptgc.spec.one_shot import OneShotPlan


@torch.no_grad()
def fill_canvas(denoiser: nn.Module, ids: list[int], plan: CanvasPlan) -> tuple[list[int], int]:
    """Fill the masked positions of a text: the canvas loop.

    Returns:
        The text, and in how many rounds it was filled.
    """
    canvas, rounds = torch.tensor(ids), 0
    for block, num_rounds in _blocks(canvas == plan.mask_token_id, plan):
        for remaining in range(num_rounds, 0, -1):
            masked = (canvas == plan.mask_token_id) & block
            if not masked.any():
                break
            least = -(-int(masked.sum()) // remaining)
            canvas = _fill(denoiser, canvas, masked, least, plan)
            rounds += 1
    return canvas.tolist(), rounds


def _blocks(masked: Tensor, plan: CanvasPlan) -> Iterator[tuple[Tensor, int]]:
    """The positions of each block, and its rounds; blocks begin at the first masked position."""
    positions = masked.nonzero().flatten().tolist()
    if not positions:
        return
    start, end = positions[0], positions[-1] + 1
    length = plan.block_length or end - start
    starts = range(start, end, length)
    where = torch.arange(len(masked))
    for first in starts:
        yield (where >= first) & (where < first + length), max(1, plan.num_steps // len(starts))


def _fill(denoiser: nn.Module, canvas: Tensor, masked: Tensor, least: int, plan: CanvasPlan) -> Tensor:
    """One round: the `least` most confident positions, and those above the threshold."""
    logits = denoise(denoiser, canvas[None], torch.tensor([len(canvas)]))[0].float()
    logits[:, plan.mask_token_id] = -torch.inf
    confidence, chosen = logits.softmax(-1).max(-1)
    order = torch.where(masked, confidence, -1).sort(descending=True, stable=True).indices
    filled = torch.zeros_like(masked)
    filled[order[:least]] = True
    if plan.threshold:
        filled |= confidence > plan.threshold
    return torch.where(filled & masked, chosen, canvas)


def write_text(model: PreTrainedModel, prompt: list[int], count: int, encoded: Any = None) -> tuple[list[int], Tensor]:
    """Greedy text over the model's own cache.

    Only a token that ends texts ends it: the checkpoint's generation settings have no part in what a model computes.

    Args:
        model: Of transformers, or of its kind.
        prompt: What the text begins with.
        count: Tokens at most.
        encoded: What a decoder reads of its source; None for a model without an encoder.

    Returns:
        The new tokens, and the logits that each was chosen from, `[tokens, vocab]`.

    Raises:
        ExportError: Code that came with the checkpoint failed.
    """
    eos, text, found = eos_token_ids(model), list(prompt), list[Tensor]()
    unread, cache = text, None
    while len(found) < count and not (found and text[-1] in eos):
        with own_code_errors(model), torch.no_grad():
            made = _next_logits(model, unread, len(text), cache, encoded)
        found.append(made.logits[0, -1].float())
        text.append(int(found[-1].argmax()))
        cache = getattr(made, "past_key_values", None)
        unread = text if cache is None else text[-1:]
    return text[len(prompt) :], torch.stack(found)


def _next_logits(model: PreTrainedModel, unread: list[int], length: int, cache: Any, encoded: Any) -> Any:
    """One run of a model behind what its cache holds."""
    ids = torch.tensor([unread])
    named: dict[str, Any] = {"use_cache": True}
    if cache is not None:
        named["past_key_values"] = cache
    if encoded is not None:
        return model(encoder_outputs=encoded, decoder_input_ids=ids, **named)
    return model(input_ids=ids, attention_mask=torch.ones(1, length, dtype=torch.long), **named)


def translate(model: PreTrainedModel, source: list[int], count: int) -> tuple[list[int], Tensor]:
    """Greedy text of an encoder-decoder; see `write_text`."""
    with torch.no_grad():
        encoded = model.get_encoder()(input_ids=torch.tensor([source]))
    return write_text(model, [start_token_id(model)], count, encoded)


@torch.no_grad()
def read_rows(encoder: nn.Module, decoder: nn.Module, source: list[int], plan: OneShotPlan) -> list[int]:
    """The text that one run of a CTC model gives: the one-shot loop.

    Raises:
        ExportError: The decoder has another number of rows than the plan.
    """
    ids, mask = torch.tensor([source]), torch.ones(1, len(source), dtype=torch.bool)
    rows = decoder(encode(encoder, ids, mask), mask)[0].argmax(-1).tolist()
    if len(rows) != plan.upsampling * len(source):
        raise ExportError(
            f"{type(decoder).__name__} gives {len(rows)} rows for {len(source)} tokens; the plan says "
            f"{plan.upsampling} for each (one_shot.upsampling)."
        )
    runs = [token for t, token in enumerate(rows) if t == 0 or token != rows[t - 1]]
    return [token for token in runs if token != plan.blank_token_id]


@dataclass(frozen=True)
class EditedText:
    """What the edit loop made."""

    ids: list[int]
    """With begin and end."""
    rounds: int
    """After which it ended."""
    largest: int
    """Tokens at most in between; any canvas that holds as many gives the same text."""


@torch.no_grad()
def edit_text(
    modules: Mapping[str, nn.Module], source: list[int], text: list[int], plan: EditPlan, longest: int
) -> EditedText:
    """Delete, insert and fill until nothing changes: the edit loop.

    Args:
        modules: The roles.
        source: What the encoder reads.
        text: Where editing begins; with its begin and end tokens.
        plan: Special tokens, and rounds at most.
        longest: Tokens that a canvas holds.
    """
    mask = torch.ones(1, len(source), dtype=torch.bool)
    rows = encode(modules["encoder"], torch.tensor([source]), mask)

    def scores(role: str, canvas: list[int]) -> Tensor:
        result: Tensor = modules[role](torch.tensor([canvas]), torch.tensor([len(canvas)]), rows, mask)[0].float()
        return result

    largest = len(text)
    for number in range(plan.max_rounds):
        before = text
        ends, deleted = {plan.bos_token_id, plan.eos_token_id}, scores("deleter", text).argmax(-1).tolist()
        text = [token for token, gone in zip(text, deleted, strict=True) if token in ends or not gone]
        text = _with_placeholders(text, scores("inserter", text).argmax(-1).tolist(), plan, longest)
        logits = scores("filler", text)
        logits[:, [plan.placeholder_token_id, plan.pad_token_id, *ends]] = -torch.inf
        chosen = logits.argmax(-1).tolist()
        text = [new if token == plan.placeholder_token_id else token for token, new in zip(text, chosen, strict=True)]
        largest = max(largest, len(text))
        if text == before:
            return EditedText(text, number + 1, largest)
    return EditedText(text, plan.max_rounds, largest)


def _with_placeholders(text: list[int], numbers: list[int], plan: EditPlan, longest: int) -> list[int]:
    made: list[int] = []
    room = longest - len(text)
    for token, wanted in zip(text[:-1], numbers, strict=False):
        number = min(wanted, room)
        room -= number
        made += [token] + [plan.placeholder_token_id] * number
    return [*made, text[-1]]
