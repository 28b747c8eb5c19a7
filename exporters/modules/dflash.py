"""DFlash's drafter: a few layers that fill a block of mask tokens in one run, over the target's states of the text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding
from transformers import Qwen3Config
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.qwen3.modeling_qwen3 import (
    Qwen3Attention,
    Qwen3DecoderLayer,
    Qwen3Model,
    Qwen3PreTrainedModel,
    Qwen3RMSNorm,
    apply_rotary_pos_emb,
    eager_attention_forward,
)

from ptgc.exporters.modules.draft_vocabulary import of_all_tokens, places_of
from ptgc.exporters.modules.tap import BlockReader, Tap


class StateProjection(nn.Module):
    """What the layers read of the target: states of several layers, projected to one and normalised.

    Args:
        size: Numbers of these states side by side.
        hidden_size: Size of a row of the result.
        eps: Of the norm.
    """

    def __init__(self, size: int, hidden_size: int, eps: float) -> None:
        super().__init__()
        self.fc = nn.Linear(size, hidden_size, bias=False)
        self.hidden_norm = Qwen3RMSNorm(hidden_size, eps=eps)

    def forward(self, states: Tensor) -> Tensor:
        """`[batch, num_tokens, hidden_size]` from `[batch, num_tokens, size]`."""
        made: Tensor = self.hidden_norm(self.fc(states))
        return made


class DFlashAttention(Qwen3Attention):
    """Keys and values of context rows are made of the target's states, the same for all layers."""

    def __init__(self, config: Qwen3Config, layer_idx: int, *, has_head_norms: bool, is_causal: bool) -> None:
        super().__init__(config, layer_idx)
        self.is_causal = is_causal
        if not has_head_norms:
            self.q_norm = self.k_norm = nn.Identity()  # type: ignore[assignment]  # some drafters have none

    def forward(  # type: ignore[override]  # the states come in beside the rows
        self,
        hidden_states: Tensor,
        position_embeddings: tuple[Tensor, Tensor],
        attention_mask: Tensor | None,
        past_key_values: Any | None = None,
        *,
        states: Tensor,
        is_context: Tensor | None = None,
        **others: Any,
    ) -> tuple[Tensor, Tensor | None]:
        """Rows `[batch, num_tokens, hidden]`; those of the context have no meaning."""
        rows = hidden_states.shape[:-1]
        source = hidden_states if is_context is None else torch.where(is_context[..., None], states, hidden_states)
        # TensorRT would not infer the number of heads behind the choice of rows.
        query, key, value = (
            part(given).view(*rows, part.out_features // self.head_dim, self.head_dim)
            for part, given in ((self.q_proj, hidden_states), (self.k_proj, source), (self.v_proj, source))
        )
        query, key, value = (part.transpose(1, 2) for part in (self.q_norm(query), self.k_norm(key), value))
        query, key = apply_rotary_pos_emb(query, key, *position_embeddings)
        if past_key_values is not None:
            key, value = past_key_values.update(key, value, self.layer_idx)
        attend: Callable[..., Any] = ALL_ATTENTION_FUNCTIONS.get_interface(
            str(self.config._attn_implementation), eager_attention_forward
        )
        made, weights = attend(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            sliding_window=self.sliding_window,
            **others,
        )
        return self.o_proj(made.reshape(*rows, -1).contiguous()), weights


class DFlashLayer(Qwen3DecoderLayer):  # type: ignore[no-untyped-call]  # transformers registers subclasses
    """A Qwen3 layer with this attention."""

    def __init__(self, config: Qwen3Config, layer_idx: int, *, has_head_norms: bool, is_causal: bool) -> None:
        super().__init__(config, layer_idx)
        self.self_attn = DFlashAttention(config, layer_idx, has_head_norms=has_head_norms, is_causal=is_causal)


class _Body(Qwen3Model):  # type: ignore[no-untyped-call]  # transformers registers subclasses
    """The layers, and the target's embedding without what its model makes of it (a scale, a norm)."""

    def __init__(
        self, config: Qwen3Config, embedded: nn.Embedding, *, has_head_norms: bool, causal_layers: Collection[int]
    ) -> None:
        config.pad_token_id = None
        vocab_size, config.vocab_size = config.vocab_size, 1  # the embedding that a Qwen3 makes is dropped at once
        super().__init__(config)
        config.vocab_size = self.vocab_size = vocab_size
        self.embed_tokens = embedded
        layers = [
            DFlashLayer(config, index, has_head_norms=has_head_norms, is_causal=index in causal_layers)
            for index in range(config.num_hidden_layers)
        ]
        self.layers = nn.ModuleList(layers)

    def forward(self, input_ids: Tensor, hidden_states: Tensor, **others: Any) -> BaseModelOutputWithPast:
        """Rows `[batch, num_tokens, hidden]` of a block's tokens, with the target's states of context rows."""
        embedded = embedding(input_ids, self.embed_tokens.weight)
        given: dict[str, Any] = {"states": hidden_states, **others}  # what the layers get beside a Qwen3's arguments
        made: BaseModelOutputWithPast = super().forward(inputs_embeds=embedded, **given)
        return made


class DFlashDrafter(BlockReader, Qwen3PreTrainedModel):  # type: ignore[no-untyped-call]  # transformers registers subclasses
    """Drafts the tokens at the masks of a block (DFlash, arXiv 2602.06036, section 4).

        rows        c0 c1 c2 ... | t  M  M  M      t: the last token of the text, M: mask tokens
        keys of     tap's states | the rows
        drafts                        d1 d2 d3     rows of the block see the context and the whole block, or, in some
                                                   layers, no later rows

    `anchored_blocks` makes the arguments of a run that drafts at many places of a text, for training.

    Args:
        config: Of the layers: `vocab_size` and `hidden_size` are the target's.
        tap: What of the target it reads, projected to `hidden_size`.
        embedded: The target's embedding.
        head: Gives logits; the target's, or one of the drafter's own.
        drafted_ids: The target's ids of the tokens that the head knows; None for all.
        has_head_norms: Whether the heads of queries and keys are normalised.
        causal_layers: Layers in which the rows of a block see no later ones.
    """

    base_model_prefix = "model"

    def __init__(
        self,
        config: Qwen3Config,
        tap: Tap,
        embedded: nn.Embedding,
        head: nn.Module,
        drafted_ids: Sequence[int] | None = None,
        *,
        has_head_norms: bool = True,
        causal_layers: Collection[int] = (),
    ) -> None:
        super().__init__(config)
        self.model = _Body(config, embedded, has_head_norms=has_head_norms, causal_layers=causal_layers)
        self.lm_head = head
        self.tap = tap
        self.states_size = config.hidden_size
        places = None if drafted_ids is None else places_of(drafted_ids, config.vocab_size)
        self.places: Tensor | None
        self.register_buffer("places", places, persistent=False)

    def forward(self, input_ids: Tensor, hidden_states: Tensor, **others: Any) -> CausalLMOutputWithPast:
        """Logits of all of the target's tokens, `[batch, num_tokens, vocab]`; those of context rows have no meaning."""
        logits = self.lm_head(self.model(input_ids, hidden_states, **others).last_hidden_state)
        return CausalLMOutputWithPast(logits=logits if self.places is None else of_all_tokens(logits, self.places))


def anchored_blocks(
    ids: Tensor, states: Tensor, anchors: Tensor, block_size: int, mask_token_id: int
) -> dict[str, Tensor]:
    """Arguments of a drafter for blocks that start at many tokens of the same texts, each as if it were alone.

        rows                c0 c1 c2 c3 ... | t1 M M | t3 M M        anchors 1 and 3, blocks of 3
        block of anchor 1   x               | x  x x |               sees the context before its anchor
        block of anchor 3   x  x  x         |        | x  x x

    Args:
        ids: Texts, `[batch, length]`.
        states: What the tap gives of their tokens, `[batch, length, hidden]`.
        anchors: Where blocks start, `[batch, blocks]`; each anchor is the last token of a text.
        block_size: Rows of a block.
        mask_token_id: The token that stands for a draft.

    Returns:
        `input_ids`, `hidden_states`, `position_ids`, `is_context`, `attention_mask`; the logits of block i are those of
        the rows `length + i * block_size` and following, the first of which drafts nothing.
    """
    (batch, length), blocks = ids.shape, anchors.shape[1]
    tokens = torch.full((batch, blocks, block_size), mask_token_id)
    tokens[..., 0] = ids.gather(1, anchors)
    rows = blocks * block_size
    block_of_row = torch.cat([torch.full((length,), -1), torch.arange(blocks).repeat_interleave(block_size)])
    is_context = block_of_row < 0
    anchor_of_row = torch.cat([torch.zeros_like(ids), anchors.repeat_interleave(block_size, dim=1)], dim=1)
    place = torch.arange(length + rows)
    in_context = (place < anchor_of_row[..., None]) & is_context  # [batch, rows, slots]
    in_block = (block_of_row[:, None] == block_of_row) & ~is_context
    seen = in_context | in_block | (place[:, None] == place)
    positions = anchors[..., None] + torch.arange(block_size)
    return {
        "input_ids": torch.cat([ids, tokens.flatten(1)], dim=1),
        "hidden_states": torch.cat([states, states.new_zeros(batch, rows, states.shape[-1])], dim=1),
        "position_ids": torch.cat([torch.arange(length).expand(batch, -1), positions.flatten(1)], dim=1),
        "is_context": is_context.expand(batch, -1),
        "attention_mask": torch.zeros(seen.shape, dtype=states.dtype)
        .masked_fill(~seen, torch.finfo(states.dtype).min)
        .unsqueeze(1),
    }
