"""A non-autoregressive transformer with CTC: an encoder, and a decoder over several rows per source token.

Libovicky and Helcl, "End-to-End Non-Autoregressive Neural Machine Translation with CTC", arXiv 1811.04719, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from ptgc.exporters.modules.layers import Layer


@dataclass(frozen=True)
class CtcConfig:
    """Sizes of a CTC transformer."""

    source_vocab_size: int
    """Tokens of the source."""
    vocab_size: int
    """Tokens of the text, the blank included."""
    blank_token_id: int
    """The token that stands for nothing."""
    upsampling: int = 2
    """Rows of the decoder for each token of the source."""
    hidden_size: int = 256
    """Columns of a row."""
    num_encoder_layers: int = 4
    """Layers of the encoder."""
    num_decoder_layers: int = 4
    """Layers of the decoder."""
    num_heads: int = 4
    """Heads of attention."""
    intermediate_size: int = 1024
    """Size of the feed-forward layers."""
    max_position_embeddings: int = 256
    """Longest source."""
    model_type: str = "ctc"
    """The family."""


class CtcDecoder(nn.Module):
    """The decoder role: every row of the encoder is split into `upsampling` rows, which attend to each other."""

    def __init__(self, config: CtcConfig) -> None:
        super().__init__()
        self.config = config
        self.split = nn.Linear(config.hidden_size, config.upsampling * config.hidden_size)
        self.layers = nn.ModuleList(
            Layer(config.hidden_size, config.num_heads, config.intermediate_size, reads=True)
            for _ in range(config.num_decoder_layers)
        )
        self.norm = nn.LayerNorm(config.hidden_size)
        self.head = nn.Linear(config.hidden_size, config.vocab_size)

    def forward(self, encoder_hidden_states: Tensor, encoder_attention_mask: Tensor) -> Tensor:
        """Logits `[batch, upsampling * source_length, vocab]`."""
        times = self.config.upsampling
        batch, count, size = encoder_hidden_states.shape
        rows = self.split(encoder_hidden_states).view(batch, count * times, size)
        mask = encoder_attention_mask.repeat_interleave(times, dim=1)
        for layer in self.layers:
            rows = layer(rows, mask, encoder_hidden_states, encoder_attention_mask)
        logits: Tensor = self.head(self.norm(rows))
        return logits
