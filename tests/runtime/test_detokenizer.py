"""Texts decoded token by token equal the decoding of the whole."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from tokenizers import Tokenizer, decoders

from ptgc.runtime.detokenizer import Detokenizer, GrowingText
from tests import tokenizers

_PIECES = ("\u2581", "\u2581a", "b", "\u2581\u2581", "c\u2581d", " ", "\ufffd")
_BYTES = tuple(f"<0x{byte:02X}>" for byte in (0x3D, 0x20, 0x0A, 0xC3, 0xA9, 0xE2, 0x82, 0xAC, 0xF0, 0x9F, 0x80, 0xFF))
_LLAMA = (decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse())
_WORD_PIECES = ("a", "##b", "'", "s", ".", "##.", "n't", "do", "not")
_KINDS: dict[str, tuple[tuple[str, ...], Any]] = {
    "llama": (_PIECES + _BYTES, decoders.Sequence([*_LLAMA, decoders.Strip(" ", 1, 0)])),
    "gemma": (_PIECES + _BYTES, decoders.Sequence([*_LLAMA])),
    "metaspace": (_PIECES, decoders.Metaspace()),
    "metaspace-without-prefix": (_PIECES, decoders.Metaspace(prepend_scheme="never")),
    "bytes-then-metaspace": (_PIECES + _BYTES, decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])),
    "word-piece": (_WORD_PIECES, decoders.WordPiece()),
    "word-piece-as-it-is": (_WORD_PIECES, decoders.WordPiece(cleanup=False)),
    "ctc": (("<pad>", "|", "a", "b", "'", "n't"), decoders.CTC()),
    "bpe-suffix": (("a</w>", "b", "c</w>", "</w>"), decoders.BPEDecoder()),
    "none": (("a", "b", "c"), None),
    "replaced-at-last": (_PIECES, decoders.Sequence([decoders.Fuse(), decoders.Replace("\u2581b", "Q")])),
    "stripped-by-two": (
        _PIECES,
        decoders.Sequence([decoders.Replace("\u2581", " "), decoders.Fuse(), decoders.Strip(" ", 2, 0)]),
    ),
}
# Bytes that begin, continue and break characters, more often than by chance.
_LIKELY_BYTES = (0x41, 0xC3, 0xA9, 0xE2, 0x82, 0xAC, 0xF0, 0x9F, 0xED, 0xFF)


@cache
def _tokenizer(kind: str) -> Tokenizer:
    return tokenizers.byte_level() if kind == "byte-level" else tokenizers.of_words(*_KINDS[kind])


def _ids(kind: str) -> some.SearchStrategy[list[int]]:
    tokenizer = _tokenizer(kind)
    anything = some.integers(0, tokenizer.get_vocab_size() + 1)
    if kind == "byte-level":
        anything = some.sampled_from([_byte_id(tokenizer, byte) for byte in _LIKELY_BYTES]) | anything
    return some.lists(anything, max_size=16)


def _byte_id(tokenizer: Tokenizer, byte: int) -> int:
    """Of a byte-level tokenizer: its alphabet spells bytes that are no printable characters from U+0100 on."""
    others = [one for one in range(256) if not (0x21 <= one < 0x7F or 0xA1 <= one < 0xAD or one >= 0xAE)]
    return _id(tokenizer, chr(0x100 + others.index(byte)) if byte in others else chr(byte))


def _id(tokenizer: Tokenizer, token: str) -> int:
    found = tokenizer.token_to_id(token)
    assert found is not None
    return found


@cache
def _detokenizer(kind: str) -> Detokenizer:
    return Detokenizer(_tokenizer(kind))


def _pieces(kind: str, ids: list[int], context: list[int]) -> list[str]:
    growing = GrowingText(_detokenizer(kind), context)
    return [*(growing.append([token]) for token in ids), growing.rest()]


@pytest.mark.parametrize("kind", [*_KINDS, "byte-level"])
@settings(max_examples=50, deadline=None)
@given(data=some.data())
def test_pieces_join_to_what_decoding_gives(kind: str, data: some.DataObject) -> None:
    ids = data.draw(_ids(kind))
    assert "".join(_pieces(kind, ids, [])) == _tokenizer(kind).decode(ids)


@pytest.mark.parametrize("kind", [kind for kind in [*_KINDS, "byte-level"] if kind != "llama"])
@settings(max_examples=50, deadline=None)
@given(data=some.data())
def test_a_text_behind_another_is_what_the_whole_adds(kind: str, data: some.DataObject) -> None:
    context, ids = data.draw(_ids(kind)), data.draw(_ids(kind))
    before, whole = _tokenizer(kind).decode(context), _tokenizer(kind).decode(context + ids)
    came = "".join(_pieces(kind, ids, context))
    assert came == whole[len(before) :] or not whole.startswith(before)


def _spelled(tokenizer: Tokenizer, *tokens: str) -> list[int]:
    return [_id(tokenizer, token) for token in tokens]


@pytest.mark.parametrize(
    ("context", "tokens", "expected"),
    [
        (("\u2581a",), ("\u2581a", "b"), " ab"),  # the space that only the beginning of a text loses
        ((), ("\u2581a", "b"), "ab"),
        (("b", "<0xC3>"), ("<0xA9>",), "é"),  # a character that begins in the context
        (("b", "<0xC3>"), ("b",), "b"),
        (("b", "<0x0A>"), ("<0xC3>", "b"), "\ufffdb"),  # the context's line break is not repeated
        (("b",), ("<0x3D>", "<0xC3>"), "\ufffd\ufffd"),  # one invalid byte spoils the run
    ],
)
def test_bytes_and_spaces_behind_a_context(context: tuple[str, ...], tokens: tuple[str, ...], expected: str) -> None:
    tokenizer = _tokenizer("llama")
    pieces = _pieces("llama", _spelled(tokenizer, *tokens), _spelled(tokenizer, *context))
    assert "".join(pieces) == expected


@pytest.mark.parametrize("kind", ["llama", "byte-level"])
def test_text_is_shown_as_soon_as_it_is_certain(kind: str) -> None:
    """At most one character or a run of bytes is held back, and each decoding covers only a few tokens."""
    tokenizer = _tokenizer(kind)
    token = _spelled(tokenizer, "b")[0] if kind == "llama" else _byte_id(tokenizer, 0x41)
    pieces = _pieces(kind, [token] * 50, [])
    assert all(pieces[:-1])
    assert pieces[-1] == ""
