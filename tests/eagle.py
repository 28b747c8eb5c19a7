"""A tiny EAGLE-3 drafter that is right at times, and the loop of the paper in plain PyTorch."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig

from ptgc.exporters.modules.eagle3 import Eagle3Drafter
from ptgc.exporters.modules.tap import Tap
from tests.models import greedy, prompt, tiny_model

TAP_LAYERS = (0, 1, 2)
DRAFTED_IDS = [token for token in range(512) if token % 16 != 5]
"""A few of the target's tokens are never drafted."""
_LENGTHS, _TOKENS, _STEPS = (1, 5, 40), 48, 60


def states_of(target: Any, ids: Tensor) -> list[Tensor]:
    """What enters the tapped layers, each `[batch, num_tokens, hidden]`."""
    with torch.no_grad():
        return [target(ids, output_hidden_states=True).hidden_states[layer] for layer in TAP_LAYERS]


@cache
def eagle3_drafter() -> Eagle3Drafter:
    """Knows by heart some of what the tiny llama writes behind prompts of the tests: from its states, and its own."""
    target = tiny_model("llama")
    size, vocab_size = target.config.hidden_size, target.config.vocab_size
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=size,
        intermediate_size=2 * size,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
    )
    project = nn.Linear(len(TAP_LAYERS) * size, size, bias=False)
    drafter = Eagle3Drafter(config, Tap(TAP_LAYERS, project), DRAFTED_IDS)
    drafter.model.embed_tokens = target.get_input_embeddings()
    drafter.requires_grad_(True).model.embed_tokens.requires_grad_(False)
    prompts = [prompt(length) for length in _LENGTHS]
    texts = [torch.tensor([[*one, *greedy(target, one, _TOKENS)]]) for one in prompts]
    tapped = [states_of(target, text[:, :-2]) for text in texts]
    optimizer = torch.optim.AdamW([one for one in drafter.parameters() if one.requires_grad], lr=3e-3)
    for _ in range(_STEPS):
        optimizer.zero_grad()
        for text, entering in zip(texts, tapped, strict=True):
            states = drafter.tap(entering)
            for _turn in range(2):  # the second time with its own states
                made = drafter(text[:, 1:-1], states, use_cache=False)
                cross_entropy(made.logits[0], text[0, 2:]).backward(retain_graph=True)
                states = torch.cat([states[:, :1], made.hidden_states[:, :-1]], dim=1)
        optimizer.step()
    return drafter.eval().requires_grad_(False)


@torch.no_grad()
def drafts(target: Any, drafter: Eagle3Drafter, ids: list[int], count: int) -> list[int]:
    """What a drafter drafts behind a text whose last token the target has not read (EAGLE-3, section 3.1)."""
    states = drafter.tap(states_of(target, torch.tensor([ids[:-1]])))
    tokens = list(ids[1:])
    for _ in range(count):
        made = drafter(torch.tensor([tokens]), states, use_cache=False)
        tokens.append(int(made.logits[0, -1].argmax()))
        states = torch.cat([states, made.hidden_states[:, -1:]], dim=1)
    return tokens[len(ids) - 1 :]
