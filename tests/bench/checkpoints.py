"""Tiny checkpoints with a tokenizer, for peers, and a bundle of them, made in a second."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.exporters import export_checkpoint

VOCAB_SIZE = 512


def byte_tokenizer() -> PreTrainedTokenizerFast:
    """One token for each byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: at for at, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


@cache
def tiny_checkpoint(folder: Path, layers: int) -> Path:
    """A Hugging Face directory of a tiny llama; the same number of layers gives the same weights."""
    torch.manual_seed(layers)
    path = folder / f"llama-{layers}"
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=256,
        eos_token_id=257,
        pad_token_id=258,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    byte_tokenizer().save_pretrained(path)
    return path


@cache
def checkpoint_bundle(folder: Path, strategy: str = "ngram", precision: str = "int8") -> Path:
    """A bundle of the two-layer checkpoint with a build."""
    bundle = folder / f"bundle-{strategy}"
    if not bundle.exists():
        export_checkpoint(tiny_checkpoint(folder, 2), bundle, strategy=strategy)
    build(bundle, BuildOptions(precision=precision, max_length=256, stage=Stage.PREPARE))
    return bundle
