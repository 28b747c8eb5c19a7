"""A tiny DFlash drafter that is right at times, and the loop of z-lab's layout in plain PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear, rms_norm, silu, softmax
from transformers import Qwen3Config

from ptgc.exporters.modules.dflash import DFlashDrafter, StateProjection, anchored_blocks
from ptgc.exporters.modules.tap import Tap
from tests.models import VOCAB_SIZE, greedy, prompt, tiny_model

BLOCK, MASK = 5, 2
TARGET_LAYERS = (0, 2)
"""Their outputs are read; that of the last layer is the state that the head reads."""
_LENGTHS, _TOKENS, _STEPS = (1, 5, 40), 48, 14
Tensors = dict[str, Tensor]


def states_of(target: Any, ids: Tensor) -> Tensor:
    """What these layers give, side by side, `[batch, num_tokens, layers * hidden]`."""
    with torch.no_grad():
        found = target(ids, output_hidden_states=True).hidden_states
    return torch.cat([found[layer + 1] for layer in TARGET_LAYERS], dim=-1)


def config() -> Qwen3Config:
    """Of the drafter's layers."""
    return Qwen3Config(
        vocab_size=VOCAB_SIZE,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=16,
        max_position_embeddings=1024,
        rms_norm_eps=1e-5,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )


@cache
def dflash_drafter() -> DFlashDrafter:
    """Knows by heart some of what the tiny llama writes behind prompts of the tests."""
    target = tiny_model("llama")
    torch.manual_seed(0)
    made = config()
    project = StateProjection(len(TARGET_LAYERS) * made.hidden_size, made.hidden_size, made.rms_norm_eps)
    taps = Tap([layer + 1 for layer in TARGET_LAYERS], project)
    drafter = DFlashDrafter(made, taps, target.get_input_embeddings(), target.get_output_embeddings())
    shared = {id(one) for one in target.parameters()}
    texts = [torch.tensor([[*one, *greedy(target, one, _TOKENS)]]) for one in map(prompt, _LENGTHS)]
    read = [states_of(target, text) for text in texts]
    optimizer = torch.optim.AdamW([one for one in drafter.parameters() if id(one) not in shared], lr=3e-3)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        for text, states in zip(texts, read, strict=True):
            anchors = torch.arange(max(text.shape[1] - _TOKENS, 1), text.shape[1] - BLOCK)[None]
            rows = anchored_blocks(text, taps.project(states), anchors, BLOCK, MASK)
            logits = drafter(**rows, use_cache=False).logits[0, text.shape[1] :].view(-1, BLOCK, VOCAB_SIZE)
            wanted = text[0][anchors[0][:, None] + torch.arange(1, BLOCK)]
            cross_entropy(logits[:, 1:].flatten(0, 1), wanted.flatten()).backward()
        optimizer.step()
    for one in drafter.parameters():
        one.requires_grad_(False)
    return drafter.eval()


def weights() -> Tensors:
    """The drafter as z-lab names its tensors."""
    drafter = dflash_drafter()
    return {
        **drafter.tap.project.state_dict(),
        **{f"layers.{name}": tensor for name, tensor in drafter.model.layers.state_dict().items()},
        "norm.weight": drafter.model.norm.weight,
    }


def _rotated(heads: Tensor, positions: Tensor, theta: float = 10000.0) -> Tensor:
    size = heads.shape[-1]
    angles = positions[:, None] / theta ** (torch.arange(0, size, 2) / size)
    cos, sin = torch.cat([angles.cos()] * 2, dim=-1), torch.cat([angles.sin()] * 2, dim=-1)
    first, second = heads.chunk(2, dim=-1)
    return heads * cos + torch.cat([-second, first], dim=-1) * sin


@torch.no_grad()
def block_logits(
    target: Any,
    tensors: Mapping[str, Tensor],
    ids: list[int],
    windows: tuple[int, ...] = (1 << 20, 1 << 20),
    causal: tuple[int, ...] = (),
) -> Tensor:
    """Logits at the masks of a block behind a text whose last token the target has not read, `[masks, vocab]`.

    DFlash, arXiv 2602.06036, section 4: rows are the last token and masks; the keys and values of every layer also come
    from the target's projected states of the text before. A layer sees the last tokens of its window; the rows of some
    layers see no later ones.
    """

    def normed(rows: Tensor, name: str) -> Tensor:
        return rms_norm(rows, rows.shape[-1:], tensors[name], 1e-5)

    embedded, head = target.get_input_embeddings().weight, target.get_output_embeddings().weight
    rows = embedded[torch.tensor([ids[-1], *[MASK] * (BLOCK - 1)])]
    context = states_of(target, torch.tensor([ids[:-1]]))[0] if len(ids) > 1 else rows.new_zeros(0, 128)
    context = normed(linear(context, tensors["fc.weight"]), "hidden_norm.weight")
    positions = torch.arange(len(ids) - 1 + BLOCK)
    for layer in range(config().num_hidden_layers):

        def part(name: str, given: Tensor, at: str = f"layers.{layer}.") -> Tensor:
            return linear(given, tensors[f"{at}{name}.weight"])

        place = f"layers.{layer}."
        normal = normed(rows, f"{place}input_layernorm.weight")
        both = torch.cat([context, normal])
        heads = [
            part(f"self_attn.{name}_proj", given).view(len(given), -1, 16)
            for name, given in (("q", normal), ("k", both), ("v", both))
        ]
        query, key = (
            _rotated(normed(one, f"{place}self_attn.{name}_norm.weight").transpose(0, 1), positions[-len(one) :])
            for one, name in ((heads[0], "q"), (heads[1], "k"))
        )
        key, value = (one.repeat_interleave(2, dim=0) for one in (key, heads[2].transpose(0, 1)))
        distance = positions[-BLOCK:, None] - positions
        hidden = (distance >= windows[layer]) | ((distance < 0) & (layer in causal))
        seen = softmax((query @ key.transpose(1, 2) / 4).masked_fill(hidden, -torch.inf), dim=-1) @ value
        rows = rows + part("self_attn.o_proj", seen.transpose(0, 1).flatten(1))
        normal = normed(rows, f"{place}post_attention_layernorm.weight")
        rows = rows + part("mlp.down_proj", silu(part("mlp.gate_proj", normal)) * part("mlp.up_proj", normal))
    return linear(normed(rows, "norm.weight"), head)[1:]


def drafts(target: Any, tensors: Mapping[str, Tensor], ids: list[int]) -> list[int]:
    """The likeliest tokens of a block."""
    found: list[int] = block_logits(target, tensors, ids).argmax(dim=-1).tolist()
    return found
