"""Small tokenizers of the usual kinds, and bundles of tiny models that have one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.exporters import export
from ptgc.runtime.text import TextCodec
from ptgc.spec.strategies.ngram import ngram
from tests.models import VOCAB_SIZE
from tests.other_models import tiny_llama
from tests.shared import worker_copy

BYTE_SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
"""Special tokens of the byte-level tokenizer, from id 256 on."""
FIRST_BYTE = 3
"""Id of byte 0 of the tokenizer with byte fallback."""
WORDS = tuple(f"\u2581{word}" for word in ("once", "upon", "there", "was", "cat"))
CHAT_TEMPLATE = (
    "{{ bos_token }}{% if messages[0].role != 'system' %}system: be brief\n{% endif %}"
    "{% for m in messages %}{{ m.role }}: {{ m.content }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def byte_level() -> Tokenizer:
    """Byte-level BPE without merges: ids 0 to 255 are bytes, then special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={one: index for index, one in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in BYTE_SPECIALS])
    return made


def byte_fallback() -> Tokenizer:
    """As Llama 2: pieces with U+2581 for spaces, and a token for every byte."""
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    pieces = ["<unk>", "<s>", "</s>", *bytes_, "\u2581", *"abcdefghijklmnopqrstuvwxyz", *WORDS]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    steps = [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    made.decoder = decoders.Sequence(steps)
    made.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in ("<unk>", "<s>", "</s>")])
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", 1)]
    )
    return made


def of_words(words: Sequence[str], decoder: Any) -> Tokenizer:
    """Any words with any decoder, and two special tokens."""
    made = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token=words[0]))
    if decoder is not None:
        made.decoder = decoder
    made.add_special_tokens([AddedToken(one, special=True, normalized=False) for one in ("<s>", "</s>")])
    made.add_tokens([AddedToken("日本", normalized=False)])
    return made


def fast(tokenizer: Tokenizer, **settings: Any) -> Any:
    """The same tokenizer for transformers."""
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **settings)


@cache
def text_build(place: Path, kind: str) -> Path:
    """A bundle with a build of two rows, whose tokenizer is `byte-level` or `byte-fallback`; both take messages."""
    tokenizers = {
        "byte-level": lambda: fast(byte_level(), chat_template=CHAT_TEMPLATE),
        "byte-fallback": lambda: fast(
            byte_fallback(), chat_template=CHAT_TEMPLATE, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
        ),
    }
    tokenizer = tokenizers[kind]()

    def make(path: Path) -> object:
        return export(
            {"target": tiny_llama(VOCAB_SIZE, context=256)}, ngram(num_draft_tokens=3), path, tokenizer=tokenizer
        )

    bundle = worker_copy(place, f"text-{kind}", make)
    build(bundle, BuildOptions(precision="float32", batch_size=2, max_length=256, stage=Stage.PREPARE))
    return bundle


def codec(folder: Path) -> TextCodec:
    """The runtime's text processing for a tokenizer's folder."""
    return TextCodec(folder)
