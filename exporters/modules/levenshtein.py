"""The Levenshtein transformer: one decoder over a canvas, with heads that delete, insert and fill.

Gu, Wang and Zhao, "Levenshtein Transformer", arXiv 1905.11006, section 3.1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ptgc.exporters.modules.layers import Encoder, Layer


@dataclass(frozen=True)
class LevenshteinConfig:
    """Sizes of a Levenshtein transformer."""

    vocab_size: int
    """Tokens of the text, with placeholder, begin, end and padding."""
    source_vocab_size: int
    """Tokens of the source."""
    max_insertions: int = 16
    """Most placeholders inserted at one position in one round."""
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
    """Longest source and longest canvas."""
    model_type: str = "levenshtein"
    """The family."""


class LevenshteinDecoder(nn.Module):
    """What the three roles share: rows of a canvas that attend to each other and to the source."""

    def __init__(self, config: LevenshteinConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.layers = nn.ModuleList(
            Layer(config.hidden_size, config.num_heads, config.intermediate_size, reads=True)
            for _ in range(config.num_decoder_layers)
        )
        self.norm = nn.LayerNorm(config.hidden_size)

    def forward(self, input_ids: Tensor, lengths: Tensor, source: Tensor, source_mask: Tensor) -> Tensor:
        """`[batch, canvas_length, hidden]` of int64 `[batch, canvas_length]` and `[batch]`."""
        columns = input_ids.shape[1]
        mask = torch.arange(columns) < lengths[:, None]
        rows = self.embed_tokens(input_ids) + self.embed_positions.weight[:columns]
        for layer in self.layers:
            rows = layer(rows, mask, source, source_mask)
        out: Tensor = self.norm(rows)
        return out


class Deleter(nn.Module):
    """Scores `[batch, canvas_length, 2]` of keeping and of deleting every token."""

    def __init__(self, decoder: LevenshteinDecoder, config: LevenshteinConfig) -> None:
        super().__init__()
        self.config, self.decoder = config, decoder
        self.head = nn.Linear(config.hidden_size, 2)

    def forward(self, input_ids: Tensor, lengths: Tensor, source: Tensor, source_mask: Tensor) -> Tensor:
        """See the class."""
        scores: Tensor = self.head(self.decoder(input_ids, lengths, source, source_mask))
        return scores


class Inserter(nn.Module):
    """Scores `[batch, canvas_length, max_insertions + 1]` for how many tokens are missing after each token."""

    def __init__(self, decoder: LevenshteinDecoder, config: LevenshteinConfig) -> None:
        super().__init__()
        self.config, self.decoder = config, decoder
        self.head = nn.Linear(2 * config.hidden_size, config.max_insertions + 1)

    def forward(self, input_ids: Tensor, lengths: Tensor, source: Tensor, source_mask: Tensor) -> Tensor:
        """Score each gap from the rows of the two tokens around it; what follows the last token is ignored."""
        rows = self.decoder(input_ids, lengths, source, source_mask)
        following = torch.cat([rows[:, 1:], rows[:, -1:]], dim=1)
        scores: Tensor = self.head(torch.cat([rows, following], dim=-1))
        return scores


class Filler(nn.Module):
    """Logits `[batch, canvas_length, vocab]` of the token for each placeholder."""

    def __init__(self, decoder: LevenshteinDecoder, config: LevenshteinConfig) -> None:
        super().__init__()
        self.config, self.decoder = config, decoder
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, input_ids: Tensor, lengths: Tensor, source: Tensor, source_mask: Tensor) -> Tensor:
        """See the class."""
        logits: Tensor = self.head(self.decoder(input_ids, lengths, source, source_mask))
        return logits


def levenshtein_roles(config: LevenshteinConfig) -> dict[str, nn.Module]:
    """The modules of every role, with new weights; the three editing roles share one decoder."""
    decoder = LevenshteinDecoder(config)
    return {
        "encoder": Encoder(config),
        "deleter": Deleter(decoder, config),
        "inserter": Inserter(decoder, config),
        "filler": Filler(decoder, config),
    }
