"""Tests of tokenizers made from SentencePiece scores."""

from __future__ import annotations

import itertools
import random

import pytest

from ptgc.exporters.checkpoint.sentencepiece_bpe import (
    SentencePieceVocabulary,
    merges_from_scores,
    tokenizer_from_sentencepiece,
)

_WORDS = ["▁", "a", "b", "c", "ab", "bc", "▁a", "abc", "▁ab", "cc", "bcc", "▁▁", "aa", "aaa"]
_PIECES = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *_WORDS]
_SCORES = [0.0] * 259 + [-float(rank) for rank in (90, 91, 92, 93, 4, 2, 3, 8, 9, 5, 1, 7, 6, 10)]
_VOCABULARY = SentencePieceVocabulary(
    _PIECES, _SCORES, frozenset(range(259)), special_ids=(0, 1, 2), unknown_id=0, bos_id=1
)


def _sentencepiece(text: str) -> list[str]:
    """Join the neighbours whose joined piece scores best, leftmost first, until nothing can be joined."""
    score = dict(zip(_PIECES[259:], _SCORES[259:], strict=True))
    pieces = list("▁" + text.replace(" ", "▁"))
    while True:
        joined = [left + right for left, right in itertools.pairwise(pieces)]
        known = [(-score[piece], index) for index, piece in enumerate(joined) if piece in score]
        if not known:
            return pieces
        index = min(known)[1]
        pieces[index : index + 2] = [joined[index]]


@pytest.mark.parametrize("seed", range(200))
def test_tokens_are_those_of_sentencepiece(seed: int) -> None:
    generator = random.Random(seed)
    text = "".join(generator.choices("abc ", k=generator.randrange(1, 25)))
    assert tokenizer_from_sentencepiece(_VOCABULARY).encode(text).tokens == ["<s>", *_sentencepiece(text)]


@pytest.mark.parametrize("text", ["ab", "  abc\n\ta ", "é日本😀", "<0x0A>", " "])
def test_decoding_returns_the_text(text: str) -> None:
    tokenizer = tokenizer_from_sentencepiece(_VOCABULARY)
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_merges_are_ordered_by_score_and_leave_special_pieces_out() -> None:
    merges = merges_from_scores(_VOCABULARY)
    assert merges[0] == ("b", "cc")
    assert not any("<" in left or "<" in right for left, right in merges)


def test_ends_and_prefix_space_are_chosen_by_the_vocabulary() -> None:
    vocabulary = SentencePieceVocabulary(
        _PIECES, _SCORES, frozenset(range(259)), (0, 1, 2), unknown_id=0, eos_id=2, prefix_space=False
    )
    assert tokenizer_from_sentencepiece(vocabulary).encode("a", "b").tokens == ["a", "</s>", "b", "</s>"]
