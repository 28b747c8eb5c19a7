"""Tiny models other than causal language models, with random weights and varied outputs."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    LlamaConfig,
    LlamaForCausalLM,
    MarianConfig,
    MarianMTModel,
    PreTrainedTokenizerFast,
)

from ptgc.exporters.modules.ctc import CtcConfig, CtcDecoder
from ptgc.exporters.modules.layers import Encoder, Layer
from ptgc.exporters.modules.levenshtein import LevenshteinConfig, levenshtein_roles

VOCAB_SIZE = 96
_POSITIONS = 1.5  # scale of position embeddings, so that outputs differ between positions


def lively(module: nn.Module, seed: int = 7, scale: float = 6.0) -> Any:
    """The module in eval mode, with weights large enough that its choices differ from position to position."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=_POSITIONS if "positions" in name else 0.02 * scale, generator=generator)
            elif "bias" in name:
                parameter.normal_(std=0.1, generator=generator)
            else:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return module.requires_grad_(False).eval()


@cache
def tiny_llama(vocab_size: int = VOCAB_SIZE, context: int = 128, layers: int = 1) -> Any:
    """A causal LM that can draft."""
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=context,
        bos_token_id=None,
        eos_token_id=None,
    )
    return lively(LlamaForCausalLM(config))


def words(count: int = VOCAB_SIZE, prefix: str = "w", **special: str) -> Any:
    """A tokenizer of made-up words."""
    vocabulary = {token: index for index, token in enumerate(special.values())}
    vocabulary |= {f"{prefix}{index}": index for index in range(len(vocabulary), count)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=f"{prefix}{count - 1}"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token=f"{prefix}{count - 1}", **special)


@cache
def tiny_bert() -> Any:
    """A masked LM; token 3 is its mask."""
    config = BertConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
    )
    return lively(BertForMaskedLM(config))


@cache
def tiny_marian() -> Any:
    """An encoder-decoder with positions that follow the cache's length, and a bias of the logits."""
    config = MarianConfig(
        vocab_size=VOCAB_SIZE,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=2,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=64,
        pad_token_id=0,
        eos_token_id=None,
        bos_token_id=None,
        forced_eos_token_id=None,
        decoder_start_token_id=0,
        scale_embedding=True,
    )
    model = lively(MarianMTModel(config))
    model.final_logits_bias.normal_(std=0.1, generator=torch.Generator().manual_seed(1))
    return model


@cache
def tiny_ctc(upsampling: int = 2) -> dict[str, Any]:
    """The roles of a CTC transformer; token 0 of the text is the blank."""
    config = CtcConfig(
        source_vocab_size=40,
        vocab_size=24,
        blank_token_id=0,
        upsampling=upsampling,
        hidden_size=32,
        num_encoder_layers=1,
        num_decoder_layers=2,
        intermediate_size=48,
        max_position_embeddings=64,
    )
    return {"encoder": lively(Encoder(config)), "decoder": lively(CtcDecoder(config))}


@cache
def tiny_levenshtein() -> dict[str, Any]:
    """The roles of a Levenshtein transformer: 0 pads, 1 begins, 2 ends, 3 is the placeholder."""
    config = LevenshteinConfig(
        vocab_size=32,
        source_vocab_size=40,
        max_insertions=5,
        hidden_size=32,
        num_encoder_layers=1,
        num_decoder_layers=2,
        intermediate_size=48,
        max_position_embeddings=48,
    )
    modules = levenshtein_roles(config)
    lively(nn.ModuleDict(modules))
    return dict(modules)


class EditedRows(nn.Module):
    """Rows of a canvas, with or without a source that they attend to."""

    def __init__(self, config: LevenshteinConfig, *, reads: bool) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.embed_positions = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.layer = Layer(config.hidden_size, config.num_heads, config.intermediate_size, reads=reads)
        self.norm = nn.LayerNorm(config.hidden_size)

    def forward(self, input_ids: Tensor, lengths: Tensor, *source: Tensor) -> Tensor:
        columns = input_ids.shape[1]
        rows = self.embed_tokens(input_ids) + self.embed_positions.weight[:columns]
        out: Tensor = self.norm(self.layer(rows, torch.arange(columns) < lengths[:, None], *source))
        return out


class TokenInserter(nn.Module):
    """Logits `[batch, canvas_length, vocab]` of what comes between a token and the next (arXiv 1902.03249).

    Token 4 inserts nothing; it becomes likelier as the text grows, so that texts end.
    """

    def __init__(self, config: LevenshteinConfig, *, reads: bool) -> None:
        super().__init__()
        self.config, self.rows = config, EditedRows(config, reads=reads)
        self.head = nn.Linear(2 * config.hidden_size, config.vocab_size)

    def forward(self, input_ids: Tensor, lengths: Tensor, *source: Tensor) -> Tensor:
        rows = self.rows(input_ids, lengths, *source)
        logits: Tensor = self.head(torch.cat([rows, torch.cat([rows[:, 1:], rows[:, -1:]], dim=1)], dim=-1))
        stops = torch.arange(logits.shape[-1]) == 4
        return logits + stops * 0.25 * lengths[:, None, None]


class TokenDeleter(nn.Module):
    """Scores `[batch, canvas_length, 2]` of keeping and of deleting every token, without a source."""

    def __init__(self, config: LevenshteinConfig) -> None:
        super().__init__()
        self.config, self.rows = config, EditedRows(config, reads=False)
        self.head = nn.Linear(config.hidden_size, 2)

    def forward(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        scores: Tensor = self.head(self.rows(input_ids, lengths))
        return scores


_INSERTION = LevenshteinConfig(
    vocab_size=32,
    source_vocab_size=40,
    hidden_size=32,
    num_encoder_layers=1,
    intermediate_size=48,
    max_position_embeddings=48,
    model_type="insertion",
)


@cache
def tiny_insertion() -> dict[str, Any]:
    """The roles of an insertion transformer: 0 pads, 1 begins, 2 ends, 4 inserts nothing."""
    modules = {"encoder": Encoder(_INSERTION), "token_inserter": TokenInserter(_INSERTION, reads=True)}
    lively(nn.ModuleDict(modules))
    return modules


@cache
def tiny_source_editor() -> dict[str, Any]:
    """Operations on a prompt, without an encoder; tokens as above."""
    config = replace(_INSERTION, source_vocab_size=_INSERTION.vocab_size)
    modules = {"deleter": TokenDeleter(config), "token_inserter": TokenInserter(config, reads=False)}
    lively(nn.ModuleDict(modules))
    with torch.no_grad():
        modules["deleter"].head.bias[0] += 1.0
    return modules
