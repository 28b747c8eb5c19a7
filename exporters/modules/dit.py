"""A diffusion transformer over tokens, as in MDLM, BD3-LM and SEDD: layers that the noise level modulates."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, silu
from transformers import GenerationMixin, LlamaConfig
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.llama.modeling_llama import (
    LlamaModel,
    LlamaPreTrainedModel,
    apply_rotary_pos_emb,
    eager_attention_forward,
)

_FREQUENCIES = 128  # of the noise level's embedding
_LONGEST_PERIOD = 10000
_LEAST_KEPT = 1e-3  # share of a text's tokens that the highest noise level keeps


class DitConfig(LlamaConfig):  # type: ignore[no-untyped-call]  # transformers registers subclasses
    """A Llama's sizes, and how the noise level comes in."""

    model_type = "dit"

    cond_size: int = 128
    """Size of the embedded noise level."""
    reads_time: bool = False
    """Whether the noise level is an input; otherwise it is 0."""


def noise_level(time: Tensor) -> Tensor:
    """The level of log-linear noise, -log(1 - (1 - eps) t), of times t: the shares of texts that are masked.

    Published as such in the code of MDLM (arXiv 2406.07524) and SEDD (arXiv 2310.16834).
    """
    return -torch.log(1 - (1 - _LEAST_KEPT) * time)


def _modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale) + shift


def _modulated(norm: nn.LayerNorm, shift: Tensor, scale: Tensor) -> nn.LayerNorm:
    """A norm that is modulated by itself."""
    made = nn.LayerNorm(list(norm.normalized_shape), eps=norm.eps, dtype=norm.weight.dtype)
    made.weight = _fixed(norm.weight * (1 + scale), norm.weight)
    made.bias = _fixed(shift, norm.weight)
    return made


def _fixed(value: Tensor, like: Tensor) -> nn.Parameter:
    return nn.Parameter(value.to(like.dtype), requires_grad=False)


class NoiseEmbedding(nn.Module):
    """A vector of the noise level: cosines and sines of it, and two layers."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(2 * _FREQUENCIES, size), nn.SiLU(), nn.Linear(size, size))

    def forward(self, sigma: Tensor) -> Tensor:
        """`[batch, size]` of `[batch]`."""
        powers = torch.arange(_FREQUENCIES, dtype=torch.float32) / _FREQUENCIES
        angles = sigma[:, None].float() * torch.exp(-math.log(_LONGEST_PERIOD) * powers)
        waves = torch.cat([angles.cos(), angles.sin()], dim=-1)
        made: Tensor = silu(self.mlp(waves.to(next(self.parameters()).dtype)))
        return made


class DitAttention(nn.Module):
    """Attention with rotary positions, whose queries, keys and values come from one matrix."""

    def __init__(self, config: DitConfig, layer_idx: int) -> None:
        super().__init__()
        size = config.hidden_size
        self.config, self.layer_idx, self.is_causal, self.num_key_value_groups = config, layer_idx, False, 1
        self.num_heads, self.head_dim = config.num_attention_heads, size // config.num_attention_heads
        self.qkv = nn.Linear(size, 3 * size, bias=False)
        self.out = nn.Linear(size, size, bias=False)

    def forward(
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None,
        past_key_values: Any | None = None,
        **others: Any,
    ) -> Tensor:
        """Rows `[batch, num_tokens, hidden]`."""
        rows = hidden_states.shape[:-1]
        parts = self.qkv(hidden_states).chunk(3, dim=-1)
        query, key, value = (part.view(*rows, self.num_heads, self.head_dim).transpose(1, 2) for part in parts)
        query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        attend: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS.get_interface(
            str(self.config._attn_implementation), eager_attention_forward
        )
        made, _ = attend(self, query, key, value, attention_mask, scaling=self.head_dim**-0.5, **others)
        result: Tensor = self.out(made.reshape(*rows, -1).contiguous())
        return result


class DitLayer(nn.Module):
    """Attention and two linear layers, each of whose inputs is shifted and scaled, and whose output is scaled."""

    def __init__(self, config: DitConfig, layer_idx: int) -> None:
        super().__init__()
        size, inner = config.hidden_size, config.intermediate_size
        self.norm1, self.norm2 = nn.LayerNorm(size, bias=False), nn.LayerNorm(size, bias=False)
        self.attention = DitAttention(config, layer_idx)
        self.mlp = nn.Sequential(nn.Linear(size, inner), nn.GELU(approximate="tanh"), nn.Linear(inner, size))
        self.adaLN_modulation: nn.Linear | None = nn.Linear(config.cond_size, 6 * size)

    def forward(self, hidden_states: Tensor, condition: Tensor | None = None, **attention: Any) -> Tensor:
        """Rows `[batch, num_tokens, hidden]`, at a noise level `[batch, cond_size]` unless that is fixed."""
        if self.adaLN_modulation is None:
            hidden_states = hidden_states + self.attention(self.norm1(hidden_states), **attention)
            made: Tensor = hidden_states + self.mlp(self.norm2(hidden_states))
            return made
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self.adaLN_modulation(condition)[:, None].chunk(6, dim=-1)
        read = self.attention(_modulate(self.norm1(hidden_states), shift, scale), **attention)
        hidden_states = hidden_states + gate * read
        normed = _modulate(self.norm2(hidden_states), mlp_shift, mlp_scale)
        return hidden_states.add(mlp_gate * self.mlp(normed))

    def fix(self, condition: Tensor) -> None:
        """Take one noise level `[cond_size]`, float32, for good: its shifts and scales become part of the weights."""
        modulation, self.adaLN_modulation = self.adaLN_modulation, None
        assert modulation is not None, "a noise level is fixed once"
        made = linear(condition, modulation.weight.float(), modulation.bias.float())
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = made.chunk(6)
        self.norm1 = _modulated(self.norm1, shift, scale)
        self.norm2 = _modulated(self.norm2, mlp_shift, mlp_scale)
        last: Any = self.mlp[2]
        self.attention.out.weight = _fixed(gate[:, None] * self.attention.out.weight, last.weight)
        last.weight, last.bias = (
            _fixed(mlp_gate[:, None] * last.weight, last.weight),
            _fixed(mlp_gate * last.bias, last.bias),
        )


class DitHead(nn.Module):
    """A norm, whose output is shifted and scaled, and the logits."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.norm_final = nn.LayerNorm(size, bias=False)
        self.linear = nn.Linear(size, config.vocab_size)
        self.adaLN_modulation: nn.Linear | None = nn.Linear(config.cond_size, 2 * size)

    def forward(self, hidden_states: Tensor, condition: Tensor | None = None) -> Tensor:
        """Logits `[batch, num_tokens, vocab]`."""
        hidden_states = self.norm_final(hidden_states)
        if self.adaLN_modulation is not None:
            shift, scale = self.adaLN_modulation(condition)[:, None].chunk(2, dim=-1)
            hidden_states = _modulate(hidden_states, shift, scale)
        made: Tensor = self.linear(hidden_states)
        return made

    def fix(self, condition: Tensor) -> None:
        """As the layers do."""
        modulation, self.adaLN_modulation = self.adaLN_modulation, None
        assert modulation is not None, "a noise level is fixed once"
        made = linear(condition, modulation.weight.float(), modulation.bias.float())
        self.norm_final = _modulated(self.norm_final, *made.chunk(2))


class _Body(LlamaModel):  # type: ignore[no-untyped-call]  # transformers registers subclasses
    """The embedding, positions and masks of a Llama, and these layers."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__(config)
        self.layers = nn.ModuleList(DitLayer(config, index) for index in range(config.num_hidden_layers))
        self.norm: nn.Module = nn.Identity()  # type: ignore[assignment]  # the head has it


class DitForMaskedDiffusion(LlamaPreTrainedModel, GenerationMixin):  # type: ignore[no-untyped-call]  # as above
    """A diffusion transformer (DiT, arXiv 2212.09748, section 3.2) that predicts the tokens at masks."""

    config_class = DitConfig
    base_model_prefix = "model"
    _keys_to_ignore_on_load_unexpected = [r"rotary_emb\.inv_freq$", r"^sampling_eps_(min|max)$"]  # noqa: RUF012  # so typed

    def __init__(self, config: DitConfig) -> None:
        super().__init__(config)
        self.model = _Body(config)
        self.sigma_map: NoiseEmbedding | None = NoiseEmbedding(config.cond_size)
        self.output_layer = DitHead(config)
        self.post_init()  # type: ignore[no-untyped-call]  # not annotated

    @property
    def reads_time(self) -> bool:
        """Whether `forward` takes the time."""
        return bool(self.config.reads_time)

    def forward(self, input_ids: Tensor, time: Tensor | None = None, **others: Any) -> CausalLMOutputWithPast:
        """Logits `[batch, num_tokens, vocab]`.

        Args:
            input_ids: int64 `[batch, num_tokens]`.
            time: Share of each text that is masked, `[batch]`, of a model that reads it; see `noise_level`.
            others: A Llama's other arguments.
        """
        if self.sigma_map is not None:
            sigma = torch.zeros(len(input_ids)) if time is None else noise_level(time)
            condition = self.sigma_map(sigma)
            states = self.model(input_ids, condition=condition, **others).last_hidden_state
            return CausalLMOutputWithPast(logits=self.output_layer(states, condition))
        states = self.model(input_ids, **others).last_hidden_state
        return CausalLMOutputWithPast(logits=self.output_layer(states))

    @torch.no_grad()
    def fix_noise_level(self) -> None:
        """Make the noise level 0 a constant, which leaves an ordinary transformer."""
        embedding, self.sigma_map = self.sigma_map, None
        assert embedding is not None, "a noise level is fixed once"
        condition = embedding.float()(torch.zeros(1))[0]
        parts: list[Any] = [*self.model.layers, self.output_layer]
        for part in parts:
            part.fix(condition)
