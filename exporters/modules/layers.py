"""Layers of non-autoregressive transformers."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention


class Attention(nn.Module):
    """Multi-head attention to all rows that a mask shows.

    Args:
        hidden_size: Columns of a row.
        num_heads: Number of heads; divides `hidden_size`.
    """

    def __init__(self, hidden_size: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(hidden_size, hidden_size) for _ in range(4))

    def forward(self, rows: Tensor, read: Tensor, mask: Tensor) -> Tensor:
        """`[batch, rows, hidden]` from `read` `[batch, keys, hidden]`; mask bool `[batch, keys]`."""
        query = self._heads(self.q_proj(rows))
        key, value = self._heads(self.k_proj(read)), self._heads(self.v_proj(read))
        shown = mask[:, None, None, :].expand(-1, 1, rows.shape[1], -1)
        heads = scaled_dot_product_attention(query, key, value, shown)
        out: Tensor = self.out_proj(heads.transpose(1, 2).flatten(2))
        return out

    def _heads(self, rows: Tensor) -> Tensor:
        batch, count, size = rows.shape
        return rows.view(batch, count, self.num_heads, size // self.num_heads).transpose(1, 2)


class Layer(nn.Module):
    """A pre-norm transformer layer; with `reads`, it also attends to a source.

    Args:
        hidden_size: Columns of a row.
        num_heads: Heads of attention.
        intermediate_size: Size of the feed-forward layer.
        reads: Whether it attends to an encoder's output.
    """

    def __init__(self, hidden_size: int, num_heads: int, intermediate_size: int, *, reads: bool) -> None:
        super().__init__()
        self.self_attn_norm, self.self_attn = nn.LayerNorm(hidden_size), Attention(hidden_size, num_heads)
        if reads:
            self.cross_attn_norm, self.cross_attn = nn.LayerNorm(hidden_size), Attention(hidden_size, num_heads)
        self.mlp_norm = nn.LayerNorm(hidden_size)
        self.up_proj = nn.Linear(hidden_size, intermediate_size)
        self.down_proj = nn.Linear(intermediate_size, hidden_size)
        self.reads = reads

    def forward(
        self, rows: Tensor, mask: Tensor, source: Tensor | None = None, source_mask: Tensor | None = None
    ) -> Tensor:
        """`[batch, rows, hidden]`; masks are bool `[batch, rows]` and `[batch, source_length]`."""
        normed = self.self_attn_norm(rows)
        rows = rows + self.self_attn(normed, normed, mask)
        if self.reads:
            rows = rows + self.cross_attn(self.cross_attn_norm(rows), source, source_mask)
        out: Tensor = rows + self.down_proj(gelu(self.up_proj(self.mlp_norm(rows))))
        return out


class EncoderSizes(Protocol):
    """What an encoder needs from a model's configuration."""

    @property
    def source_vocab_size(self) -> int:
        """Tokens of the source."""
        ...

    @property
    def hidden_size(self) -> int:
        """Columns of a row."""
        ...

    @property
    def num_encoder_layers(self) -> int:
        """Layers."""
        ...

    @property
    def num_heads(self) -> int:
        """Heads of attention."""
        ...

    @property
    def intermediate_size(self) -> int:
        """Size of the feed-forward layers."""
        ...

    @property
    def max_position_embeddings(self) -> int:
        """Longest source."""
        ...


class Encoder(nn.Module):
    """The encoder role: tokens of a source into rows that a decoder reads.

    Args:
        config: Configuration of the model that it belongs to.
    """

    def __init__(self, config: EncoderSizes) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.source_vocab_size, config.hidden_size)
        self.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.layers = nn.ModuleList(
            Layer(config.hidden_size, config.num_heads, config.intermediate_size, reads=False)
            for _ in range(config.num_encoder_layers)
        )
        self.norm = nn.LayerNorm(config.hidden_size)

    def forward(self, input_ids: Tensor, encoder_attention_mask: Tensor) -> Tensor:
        """`[batch, source_length, hidden]` from int64 and bool `[batch, source_length]`."""
        rows = self.embed_tokens(input_ids) + self.embed_positions.weight[: input_ids.shape[1]]
        for layer in self.layers:
            rows = layer(rows, encoder_attention_mask)
        out: Tensor = self.norm(rows)
        return out
