"""Tiny drafters on hidden states that are right at times, and the loops of the papers in plain PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear, silu
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from ptgc.exporters.modules.eagle import EagleDrafter
from ptgc.exporters.modules.eagle3 import Eagle3Drafter
from ptgc.exporters.modules.tap import StateReader, Tap
from tests.models import greedy, prompt, tiny_model

TAP_LAYERS = (0, 1, 2)
DRAFTED_IDS = [token for token in range(512) if token % 16 != 5]
"""A few of the target's tokens are never drafted."""
_LENGTHS, _TOKENS = (1, 5, 40), 48


def states_of(target: Any, ids: Tensor, tap: Tap) -> list[Tensor]:
    """What a tap reads, each `[batch, num_tokens, hidden]`."""
    with torch.no_grad():
        states = target(ids, output_hidden_states=True).hidden_states
    return [states[layer] for layer in tap.layers or (-1,)]


def tiny_config(target: Any) -> LlamaConfig:
    """Of a drafter's layer."""
    size = target.config.hidden_size
    return LlamaConfig(
        vocab_size=target.config.vocab_size,
        hidden_size=size,
        intermediate_size=2 * size,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
    )


@torch.enable_grad()  # whatever the test that is first to need it
def learn(target: Any, drafter: Any, num_steps: int = 60) -> None:
    """Teach a drafter some of what a target writes behind prompts of the tests: from its states, and its own."""
    kept = {id(one) for one in target.parameters()}
    learned = [one.requires_grad_(True) for one in drafter.parameters() if id(one) not in kept]
    prompts = [prompt(length) for length in _LENGTHS]
    texts = [torch.tensor([[*one, *greedy(target, one, _TOKENS)]]) for one in prompts]
    tapped = [states_of(target, text[:, :-2], drafter.tap) for text in texts]
    optimizer = torch.optim.AdamW(learned, lr=3e-3)
    for _ in range(num_steps):
        optimizer.zero_grad()
        for text, given in zip(texts, tapped, strict=True):
            states = drafter.tap(given)
            for _turn in range(2):  # the second time with its own states
                made = drafter(text[:, 1:-1], states, use_cache=False)
                cross_entropy(made.logits[0], text[0, 2:]).backward(retain_graph=True)
                states = torch.cat([states[:, :1], made.hidden_states[:, :-1]], dim=1)
        optimizer.step()
    drafter.eval()
    for one in learned:
        one.requires_grad_(False)


@cache
def eagle3_drafter() -> Eagle3Drafter:
    """Has learned some of the tiny llama's texts."""
    target = tiny_model("llama")
    torch.manual_seed(0)
    size = target.config.hidden_size
    project = nn.Linear(len(TAP_LAYERS) * size, size, bias=False)
    drafter = Eagle3Drafter(tiny_config(target), Tap(TAP_LAYERS, project), DRAFTED_IDS)
    drafter.model.embed_tokens = target.get_input_embeddings()
    learn(target, drafter)
    return drafter


@cache
def eagle_drafter() -> EagleDrafter:
    """Has learned some of the tiny llama's texts; its projection has a bias, as the first checkpoints have."""
    target = tiny_model("llama")
    torch.manual_seed(0)
    drafter = EagleDrafter(tiny_config(target), target.get_output_embeddings())
    drafter.model.embed_tokens = target.get_input_embeddings()
    drafter.fc.bias = nn.Parameter(torch.zeros(target.config.hidden_size))
    learn(target, drafter, 42)
    return drafter


@torch.no_grad()
def drafts(target: Any, drafter: StateReader, ids: list[int], count: int) -> list[int]:
    """What a drafter drafts behind a text whose last token the target has not read (EAGLE-3, section 3.1)."""
    states = drafter.tap(states_of(target, torch.tensor([ids[:-1]]), drafter.tap))
    tokens = list(ids[1:])
    for _ in range(count):
        made: Any = drafter.forward(torch.tensor([tokens]), states, use_cache=False)
        tokens.append(int(made.logits[0, -1].argmax()))
        states = torch.cat([states, made.hidden_states[:, -1:]], dim=1)
    return tokens[len(ids) - 1 :]


@torch.no_grad()
def eagle_score(target: Any, drafter: StateReader, ids: list[int], path: tuple[int, ...]) -> Tensor:
    """A drafter's logits `[vocab]` after some drafts, with its own states behind the text."""
    states = drafter.tap(states_of(target, torch.tensor([ids[:-1]]), drafter.tap))
    for read in range(len(path) + 1):
        tokens = [*ids[1:], *path[:read]]
        made: Any = drafter.forward(torch.tensor([tokens]), states, use_cache=False)
        states = torch.cat([states, made.hidden_states[:, -1:]], dim=1)
    logits: Tensor = made.logits[0, -1]
    return logits


@torch.no_grad()
def eagle_drafts(target: Any, weights: Mapping[str, Tensor], ids: list[int], count: int) -> list[int]:
    """What EAGLE (section 4.1, figure 6) drafts by weights in the layout of SafeAILab/EAGLE.

    Norms of the embedding, before the first layer and before the head are applied where there are some.
    """
    embed, states = target.get_input_embeddings(), target.model(torch.tensor([ids[:-1]])).last_hidden_state
    if "embed_tokens.weight" in weights:
        embed = torch.nn.Embedding.from_pretrained(weights["embed_tokens.weight"])
    tokens = list(ids[1:])
    for _ in range(count):
        pairs = torch.cat([normed(embed(torch.tensor([tokens])), weights.get("embed_layernorm.weight")), states], -1)
        made = linear(pairs, weights["fc.weight"], weights.get("fc.bias"))
        for layer in sorted({name.split(".")[1] for name in weights if name.startswith("layers.")}):
            part = {name.removeprefix(f"layers.{layer}."): one for name, one in weights.items()}
            norm = weights.get("hidden_layernorm.weight") if layer == "0" else part["input_layernorm.weight"]
            made = llama_layer(target, part, made, normed(made, norm))
        made = made[:, -1:]
        tokens.append(int(target.lm_head(normed(made, weights.get("lm_head_layernorm.weight"))).argmax()))
        states = torch.cat([states, made], dim=1)
    return tokens[len(ids) - 1 :]


def normed(rows: Tensor, weight: Tensor | None) -> Tensor:
    """With the root mean square divided out, or as they are without weights."""
    return rows if weight is None else rows * torch.rsqrt(rows.pow(2).mean(-1, keepdim=True) + 1e-6) * weight


def llama_layer(target: Any, part: Mapping[str, Tensor], rows: Tensor, read: Tensor) -> Tensor:
    """A Llama layer whose attention reads rows that are normed already, `[1, num_tokens, hidden]`."""
    count = rows.shape[1]
    query, key, value = (
        linear(read, part[f"self_attn.{name}_proj.weight"], part.get(f"self_attn.{name}_proj.bias"))
        .view(1, count, -1, 16)
        .transpose(1, 2)
        for name in "qkv"
    )
    query, key = apply_rotary_pos_emb(query, key, *target.model.rotary_emb(rows, torch.arange(count)[None]))
    key, value = (one.repeat_interleave(query.shape[1] // one.shape[1], dim=1) for one in (key, value))
    scores = query @ key.transpose(2, 3) / 4 + torch.full((count, count), -torch.inf).triu(1)
    mixed = (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)
    rows = rows + linear(mixed, part["self_attn.o_proj.weight"])
    read = normed(rows, part["post_attention_layernorm.weight"])
    gated = silu(linear(read, part["mlp.gate_proj.weight"])) * linear(read, part["mlp.up_proj.weight"])
    return rows + linear(gated, part["mlp.down_proj.weight"])
