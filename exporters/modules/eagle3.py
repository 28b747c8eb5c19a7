"""EAGLE-3's drafter: one layer that reads tokens beside the target's states, and its own where there are none yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaPreTrainedModel, LlamaRMSNorm

from ptgc.exporters.modules.draft_vocabulary import of_all_tokens, places_of
from ptgc.exporters.modules.eagle import EagleBody
from ptgc.exporters.modules.tap import StateReader, Tap


class Eagle3Layer(LlamaDecoderLayer):  # type: ignore[no-untyped-call]  # transformers registers subclasses
    """A Llama layer over pairs of an embedding and a state, normalised apart; only the state is a residual."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config, 0)
        size, attention = config.hidden_size, self.self_attn
        self.norms_residual = bool(getattr(config, "norm_before_residual", False))  # of vllm-project/speculators
        self.hidden_norm = LlamaRMSNorm(size, eps=config.rms_norm_eps)
        for name in ("q_proj", "k_proj", "v_proj"):
            rows = getattr(attention, name).out_features
            setattr(attention, name, nn.Linear(2 * size, rows, bias=config.attention_bias))

    def forward(self, hidden_states: Tensor, *_: Any, **attention: Any) -> Tensor:
        """States `[batch, num_tokens, hidden]` of pairs `[batch, num_tokens, 2 * hidden]`."""
        embedded, states = hidden_states.chunk(2, dim=-1)
        normed = self.hidden_norm(states)
        pairs = torch.cat([self.input_layernorm(embedded), normed], dim=-1)
        states = (normed if self.norms_residual else states) + self.self_attn(hidden_states=pairs, **attention)[0]
        made: Tensor = states + self.mlp(self.post_attention_layernorm(states))
        return made


class Eagle3Drafter(StateReader, LlamaPreTrainedModel):  # type: ignore[no-untyped-call]  # transformers registers subclasses
    """Drafts token t + 2 from token t + 1 and the state of token t (Li et al., arXiv 2503.01840, section 3).

    Args:
        config: Of the layer: `vocab_size` is the target's, `hidden_size` is its own.
        tap: What of the target it reads, projected to `hidden_size`.
        drafted_ids: The target's ids of the tokens that it can draft, `[draft_vocab]`.
    """

    base_model_prefix = "model"

    def __init__(self, config: LlamaConfig, tap: Tap, drafted_ids: Sequence[int]) -> None:
        super().__init__(config)
        self.model = EagleBody(config)
        self.model.layers = nn.ModuleList([Eagle3Layer(config)])
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, len(drafted_ids), bias=False)
        self.tap = tap
        self.states_size = config.hidden_size
        self.places: Tensor
        self.register_buffer("places", places_of(drafted_ids, config.vocab_size), persistent=False)
        self.post_init()  # type: ignore[no-untyped-call]  # not annotated

    def join(self, embedded: Tensor, states: Tensor) -> Tensor:
        """Pairs `[batch, num_tokens, 2 * hidden]`, which the layer normalises."""
        return torch.cat([embedded, states], dim=-1)

    def score(self, states: Tensor) -> Tensor:
        """Logits; those of tokens that cannot be drafted are far below all others."""
        return of_all_tokens(self.lm_head(self.norm(states)), self.places)
