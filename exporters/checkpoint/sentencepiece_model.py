"""SentencePiece model files (.spm, .model): pieces, scores and normalisation, without the sentencepiece package.

Such a file is one protocol buffer, the ModelProto of sentencepiece_model.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

from ptgc.errors import CheckpointError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types of protocol buffers


class PieceType(IntEnum):
    """What a piece is for."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class ModelType(IntEnum):
    """How text becomes pieces."""

    UNIGRAM = 1
    BPE = 2
    WORD = 3
    CHAR = 4


@dataclass(frozen=True)
class SentencePiece:
    """One piece of a vocabulary."""

    text: str
    """Spaces written as U+2581."""
    score: float
    """Log probability in a unigram model."""
    type: PieceType
    """What it is for."""


@dataclass(frozen=True)
class SentencePieceModel:
    """The content of a model file."""

    pieces: tuple[SentencePiece, ...]
    """By id."""
    type: ModelType
    """How text becomes pieces."""
    byte_fallback: bool
    """Whether text that no piece spells is split into bytes."""
    charsmap: bytes
    """Normalisation as a compiled table; empty for none."""
    adds_prefix: bool
    """Whether a space is put before every text."""
    removes_extra_spaces: bool
    """Whether spaces at the ends are removed and repeated spaces reduced to one."""


def read_sentencepiece_model(path: Path) -> SentencePieceModel:
    """Read a model file.

    Raises:
        CheckpointError: It is not a model file, or is damaged.
    """
    try:
        fields = list(_fields(path.read_bytes()))
        trainer = dict(_fields(_last(fields, 2, b"")))
        normalizer = dict(_fields(_last(fields, 3, b"")))
        return SentencePieceModel(
            pieces=tuple(_piece(value) for number, value in fields if number == 1 and isinstance(value, bytes)),
            type=ModelType(int(trainer.get(3, ModelType.UNIGRAM))),
            byte_fallback=bool(trainer.get(35, False)),
            charsmap=_last(list(normalizer.items()), 2, b""),
            adds_prefix=bool(normalizer.get(3, True)),
            removes_extra_spaces=bool(normalizer.get(4, True)),
        )
    except (ValueError, IndexError, struct.error) as error:
        raise CheckpointError(
            f"Cannot read '{path}': it is no SentencePiece model, or damaged ({error}).", "Download it again."
        ) from error


def _piece(data: bytes) -> SentencePiece:
    fields = dict(_fields(data))
    text, score = fields.get(1, b""), fields.get(2, 0.0)
    if not isinstance(text, bytes) or not isinstance(score, float):
        raise ValueError("a piece has no text or no score")
    return SentencePiece(text.decode("utf-8"), score, PieceType(int(fields.get(3, PieceType.NORMAL))))


def _last(fields: list[tuple[int, int | float | bytes]], wanted: int, default: bytes) -> bytes:
    """The last value of a field that holds bytes."""
    found = [value for number, value in fields if number == wanted]
    if found and not isinstance(found[-1], bytes):
        raise ValueError(f"field {wanted} holds no bytes")
    return found[-1] if found and isinstance(found[-1], bytes) else default


def _fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """The numbered fields of a message, in order."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, position = _varint(data, position)
            yield number, value
        elif kind in (_FIXED32, _FIXED64):
            size, code = (4, "<f") if kind == _FIXED32 else (8, "<d")
            yield number, float(struct.unpack_from(code, data, position)[0])
            position += size
        elif kind == _BYTES:
            length, position = _varint(data, position)
            if position + length > len(data):
                raise ValueError("it is truncated")
            yield number, data[position : position + length]
            position += length
        else:
            raise ValueError(f"a field has the unknown wire type {kind}")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A number stored in seven bits per byte, the lowest first."""
    value = 0
    for shift in range(0, 64, 7):
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number has too many bytes")
