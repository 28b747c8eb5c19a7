"""Reading a llama2.c model into transformers: its weights and its tokenizer."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import LlamaConfig, PreTrainedModel, PreTrainedTokenizerFast

from ptgc.errors import CheckpointError
from ptgc.exporters.checkpoint.huggingface_directory import model_from_state_dict
from ptgc.exporters.checkpoint.sentencepiece_bpe import SentencePieceVocabulary, tokenizer_from_sentencepiece

_HEADER = struct.Struct("<7i")
_UNKNOWN, _BOS, _EOS, _FIRST_BYTE = 0, 1, 2, 3
_NUM_BYTES = 256
_SPECIAL_PIECES = {_UNKNOWN: "<unk>", _BOS: "<s>", _EOS: "</s>"}  # llama2.c writes "\n<s>\n" for printing


@dataclass(frozen=True)
class Llama2cHeader:
    """The sizes at the beginning of a model file.

    Attributes:
        dim: Width of the model.
        hidden_dim: Width of the feed-forward layers.
        num_layers: Number of layers.
        num_heads: Number of query heads.
        num_kv_heads: Number of key and value heads.
        vocab_size: Number of tokens; negative in the file if the head is not the embedding.
        context_length: Longest sequence.
        tied: Whether the head is the embedding.
    """

    dim: int
    hidden_dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    vocab_size: int
    context_length: int
    tied: bool

    @property
    def head_dim(self) -> int:
        """Width of one head."""
        return self.dim // self.num_heads


def load_llama2c(content: bytes) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Convert `model.bin` followed by `tokenizer.bin`, both of llama2.c.

    Args:
        content: The two files, one after the other.

    Raises:
        CheckpointError: The content is shorter or longer than its header says.
    """
    header = read_header(content)
    state_dict, end = read_weights(content, header)
    pieces, scores = read_vocabulary(content[end:], header.vocab_size)
    model = model_from_state_dict(_config(header), state_dict, torch.float32)
    if model.generation_config is not None:
        model.generation_config.eos_token_id = [_EOS, _BOS]  # llama2.c also stops where the next text begins
    return model, _tokenizer(header, pieces, scores)


def read_header(content: bytes) -> Llama2cHeader:
    """Read the seven sizes that a model file begins with."""
    if len(content) < _HEADER.size:
        raise _damaged(f"it has {len(content)} bytes, and its header alone {_HEADER.size}")
    dim, hidden_dim, layers, heads, kv_heads, vocab_size, context = _HEADER.unpack_from(content)
    sizes = (dim, hidden_dim, layers, heads, kv_heads, abs(vocab_size), context)
    if min(sizes) < 1 or dim % heads or heads % kv_heads or dim // heads % 2:
        raise _damaged(f"its sizes are impossible: {sizes}")
    return Llama2cHeader(dim, hidden_dim, layers, heads, kv_heads, abs(vocab_size), context, vocab_size > 0)


def read_weights(content: bytes, header: Llama2cHeader) -> tuple[dict[str, torch.Tensor], int]:
    """Return the tensors under the names of transformers, and the number of bytes up to their end."""
    reader = _FloatReader(content, _HEADER.size)
    layers, dim, kv_dim = header.num_layers, header.dim, header.num_kv_heads * header.head_dim
    state_dict = {"model.embed_tokens.weight": reader.take(header.vocab_size, dim)}
    # the order of the file; every entry holds all layers: [layers, ...]
    stacked = {
        "input_layernorm": (dim,),
        "self_attn.q_proj": (dim, dim),
        "self_attn.k_proj": (kv_dim, dim),
        "self_attn.v_proj": (kv_dim, dim),
        "self_attn.o_proj": (dim, dim),
        "post_attention_layernorm": (dim,),
        "mlp.gate_proj": (header.hidden_dim, dim),
        "mlp.down_proj": (dim, header.hidden_dim),
        "mlp.up_proj": (header.hidden_dim, dim),
    }
    for name, shape in stacked.items():
        for layer, tensor in enumerate(reader.take(layers, *shape)):
            state_dict[f"model.layers.{layer}.{name}.weight"] = _rotary_halves(name, tensor, header.head_dim)
    state_dict["model.norm.weight"] = reader.take(dim)
    reader.take(2, header.context_length, header.head_dim // 2)  # tables of cosines and sines: recomputed
    if not header.tied:
        state_dict["lm_head.weight"] = reader.take(header.vocab_size, dim)
    return state_dict, reader.position


def read_vocabulary(content: bytes, vocab_size: int) -> tuple[list[str], list[float]]:
    """Read `tokenizer.bin`: the longest length, then score, length and bytes of every token."""
    pieces, scores = [], []
    position = 4
    for token_id in range(vocab_size):
        if len(content) < position + 8:
            raise _damaged(f"its tokenizer ends after {token_id} of {vocab_size} tokens")
        score, length = struct.unpack_from("<fi", content, position)
        position += 8 + length
        if length < 0 or position > len(content):
            raise _damaged(f"its tokenizer ends within token {token_id} of {vocab_size}")
        pieces.append(_piece(token_id, content[position - length : position]))
        scores.append(score)
    if position != len(content):
        raise _damaged(f"{len(content) - position} bytes follow its tokenizer")
    return pieces, scores


class _FloatReader:
    """Reads float32 tensors from bytes, front to back."""

    def __init__(self, content: bytes, position: int) -> None:
        self._content = content
        self.position = position

    def take(self, *shape: int) -> torch.Tensor:
        count = int(np.prod(shape, dtype=object))
        end = self.position + 4 * count
        if end > len(self._content):
            raise _damaged(f"it has {len(self._content)} bytes, and its sizes ask for at least {end}")
        values = np.frombuffer(self._content, "<f4", count, self.position)
        self.position = end
        return torch.from_numpy(values.reshape(shape).copy())


def _rotary_halves(name: str, tensor: torch.Tensor, head_dim: int) -> torch.Tensor:
    """Reorder the rows of a head from neighbouring rotary pairs (0, 1) to halves (0, d/2)."""
    if not name.endswith(("q_proj", "k_proj")):
        return tensor.clone()
    pairs = tensor.reshape(-1, head_dim // 2, 2, tensor.shape[-1])
    return pairs.transpose(1, 2).reshape(tensor.shape)


def _piece(token_id: int, stored: bytes) -> str:
    if token_id in _SPECIAL_PIECES:
        return _SPECIAL_PIECES[token_id]
    if _FIRST_BYTE <= token_id < _FIRST_BYTE + _NUM_BYTES:
        return f"<0x{token_id - _FIRST_BYTE:02X}>"
    return stored.decode("utf-8").replace(" ", "▁")


def _config(header: Llama2cHeader) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=header.vocab_size,
        hidden_size=header.dim,
        intermediate_size=header.hidden_dim,
        num_hidden_layers=header.num_layers,
        num_attention_heads=header.num_heads,
        num_key_value_heads=header.num_kv_heads,
        max_position_embeddings=header.context_length,
        rms_norm_eps=1e-5,  # a constant of llama2.c
        tie_word_embeddings=header.tied,
        bos_token_id=_BOS,
        eos_token_id=_EOS,
        dtype=torch.float32,
    )


def _tokenizer(header: Llama2cHeader, pieces: list[str], scores: list[float]) -> PreTrainedTokenizerFast:
    vocabulary = SentencePieceVocabulary(
        pieces=pieces,
        scores=scores,
        unmergeable_ids=frozenset(range(_FIRST_BYTE + _NUM_BYTES)),
        special_ids=tuple(_SPECIAL_PIECES),
        unknown_id=_UNKNOWN,
        bos_id=_BOS,
    )
    tokenizer: Tokenizer = tokenizer_from_sentencepiece(vocabulary)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # not annotated
        tokenizer_object=tokenizer,
        unk_token=pieces[_UNKNOWN],
        bos_token=pieces[_BOS],
        eos_token=pieces[_EOS],
        model_max_length=header.context_length,
        clean_up_tokenization_spaces=False,
    )


def _damaged(what: str) -> CheckpointError:
    return CheckpointError(f"Cannot read the llama2.c model: {what}.", "Download the file again.")
