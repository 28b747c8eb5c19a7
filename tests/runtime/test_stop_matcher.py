"""Stop strings in texts that grow, with special tokens and without."""

from __future__ import annotations

import pytest

from ptgc.runtime.detokenizer import Detokenizer
from ptgc.runtime.stop_matcher import StoppedText, ids_before
from tests import tokenizers

_TOKENIZER = tokenizers.byte_level()


def _write(stops: list[str], text: str) -> tuple[str, list[str]]:
    """The remaining text and the pieces in which it was delivered."""
    stopped = StoppedText(Detokenizer(_TOKENIZER), stops)
    pieces: list[str] = []
    for token in _TOKENIZER.encode(text).ids:
        stopped.append(token)
        pieces.append(stopped.shown_after(sum(map(len, pieces))))
    return stopped.finish(), pieces


@pytest.mark.parametrize(
    ("stops", "text", "expected"),
    [
        (["<|im_end|>"], "ab<|im_end|>cd", "ab"),
        (["b<|im_end|>"], "ab<|im_end|>cd", "a"),
        (["<|im_end|>\nuser"], "ab<|im_end|>\nuser: x", "ab"),
        (["<|im_end|>\nuser"], "ab<|im_end|>\nmodel: x", "ab\nmodel: x"),
        (["<|im_end|><|im_start|>"], "a<|im_start|>b<|im_end|><|im_start|>c", "ab"),
        (["bc"], "ab<|im_end|>cd", "a"),  # special tokens are not shown
        (["im_end"], "ab<|im_end|>cd", "abcd"),
        (["d", "<|im_end|>"], "ab<|im_end|>cd", "ab"),
        (["b", "<|im_end|>"], "ab<|im_end|>cd", "a"),
        (["é<|im_end|>", "never"], "né<|im_end|>", "n"),
        (["never"], "naïve", "naïve"),
    ],
)
def test_the_first_stop_string_ends_the_text(stops: list[str], text: str, expected: str) -> None:
    came, pieces = _write(stops, text)
    assert came == expected
    assert expected.startswith("".join(pieces))


def test_what_may_begin_a_stop_string_is_held_back() -> None:
    _, pieces = _write(["b<|im_end|>"], "abc<|im_end|>")
    assert pieces == ["a", "", "bc", ""]


def test_the_tokens_of_a_text_end_with_its_last_whole_character() -> None:
    ids = _TOKENIZER.encode("né, so").ids
    assert ids_before(Detokenizer(_TOKENIZER), ids, "né") == ids[:3]
