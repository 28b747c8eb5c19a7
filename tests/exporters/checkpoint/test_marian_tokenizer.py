"""Tests of Marian's tokenizers, against ids that transformers' MarianTokenizer gives with the same files."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from ptgc.errors import CheckpointError
from ptgc.exporters.checkpoint.marian_tokenizer import is_marian, load_marian_tokenizer
from ptgc.exporters.checkpoint.sentencepiece_model import ModelType, PieceType, read_sentencepiece_model

_SOURCE = {"▁": -3.0, "▁the": -1.0, "▁cat": -1.5, "t": -4.0, "h": -4.0, "e": -4.0, "c": -4.0, "a": -4.0, "s": -2.0}
_TARGET = {"▁": -3.0, "▁die": -1.0, "▁Katze": -1.5, "ü": -4.0, "ß": -4.0, "s": -2.0}
_IDS = ["</s>", "<unk>", *_SOURCE, *(piece for piece in _TARGET if piece not in _SOURCE), ">>de<<", "<pad>"]


def _varint(value: int) -> bytes:
    head = b""
    while value > 0x7F:
        head += bytes([value & 0x7F | 0x80])
        value >>= 7
    return head + bytes([value])


def _field(number: int, value: bytes | float) -> bytes:
    if isinstance(value, bytes):
        return _varint(number << 3 | 2) + _varint(len(value)) + value
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    return _varint(number << 3) + _varint(value)


def _model(pieces: dict[str, float], kind: ModelType = ModelType.UNIGRAM) -> bytes:
    """A model file that normalises only spaces."""
    types = {"<unk>": PieceType.UNKNOWN, "<s>": PieceType.CONTROL, "</s>": PieceType.CONTROL}
    every = {**dict.fromkeys(types, 0.0), **pieces}
    content = b"".join(
        _field(1, _field(1, text.encode()) + _field(2, score) + _field(3, int(types.get(text, PieceType.NORMAL))))
        for text, score in every.items()
    )
    return content + _field(2, _field(3, int(kind))) + _field(3, _field(1, b"identity"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The tokenizer's files of a Marian checkpoint."""
    (tmp_path / "source.spm").write_bytes(_model(_SOURCE))
    (tmp_path / "target.spm").write_bytes(_model(_TARGET))
    (tmp_path / "vocab.json").write_text(json.dumps({piece: token for token, piece in enumerate(_IDS)}))
    return tmp_path


def test_model_file_is_read(folder: Path) -> None:
    model = read_sentencepiece_model(folder / "source.spm")
    assert model.type is ModelType.UNIGRAM
    assert [piece.text for piece in model.pieces[:4]] == ["<unk>", "<s>", "</s>", "▁"]
    assert {piece.text: piece.score for piece in model.pieces[3:]} == _SOURCE
    assert (model.adds_prefix, model.removes_extra_spaces, model.charsmap) == (True, True, b"")


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("the cat", ["▁the", "▁cat"]),
        ("  the   cats ", ["▁the", "▁cat", "s"]),
        ("he", ["▁", "h", "e"]),
        (">>de<< the cat", [">>de<<", "▁the", "▁cat"]),
        ("die Katze", ["▁", "<unk>", "e", "▁", "<unk>", "a", "t", "<unk>", "e"]),  # pieces of the target are not used
        ("ü", ["▁", "ü"]),  # a character unknown to the source keeps its id
        ("üß", ["▁", "<unk>"]),
        ("xyz cat", ["▁", "<unk>", "▁cat"]),
        ("", []),
    ],
)
def test_sources_are_read_as_marian_reads_them(text: str, tokens: list[str], folder: Path) -> None:
    assert is_marian(folder)
    tokenizer = load_marian_tokenizer(folder, pytest.fail)
    assert tokenizer is not None
    assert tokenizer(text).input_ids == [_IDS.index(token) for token in [*tokens, "</s>"]]


def test_tokens_of_both_sides_are_written(folder: Path) -> None:
    tokenizer = load_marian_tokenizer(folder, pytest.fail)
    assert tokenizer is not None
    ids = [_IDS.index(token) for token in ("▁die", "▁Katze", "s", "▁the", "ü", "</s>", "<pad>")]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "die Katzes theü"
    assert (tokenizer.eos_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id) == (0, 1, len(_IDS) - 1)


def test_what_one_tokenizer_cannot_be_is_noted(folder: Path) -> None:
    notes: list[str] = []
    (folder / "tokenizer_config.json").write_text('{"separate_vocabs": true}')
    assert load_marian_tokenizer(folder, notes.append) is None
    (folder / "tokenizer_config.json").unlink()
    (folder / "source.spm").write_bytes(_model(_SOURCE, ModelType.BPE))
    assert load_marian_tokenizer(folder, notes.append) is None
    (folder / "source.spm").write_bytes(_model(_SOURCE | {"▁dog": -2.0}))
    assert load_marian_tokenizer(folder, notes.append) is not None
    assert [word in note for word, note in zip(("vocabularies of their own", "bpe", "▁dog"), notes, strict=True)] == [
        True
    ] * 3


@pytest.mark.parametrize("content", [b"\x0a\xff", b"\x0b", b"\xff" * 12, _model(_SOURCE)[:-9] + b"\x1a\x7f"])
def test_damaged_model_is_refused(content: bytes, folder: Path) -> None:
    (folder / "source.spm").write_bytes(content)
    with pytest.raises(CheckpointError, match="SentencePiece"):
        load_marian_tokenizer(folder, pytest.fail)


@pytest.mark.parametrize("vocabulary", ['{"a": 0, "b": 2}', '{"a": 0}', "[]", "{"])
def test_damaged_vocabulary_is_refused(vocabulary: str, folder: Path) -> None:
    (folder / "vocab.json").write_text(vocabulary)
    with pytest.raises(CheckpointError, match=r"vocab\.json"):
        load_marian_tokenizer(folder, lambda _: None)
