"""Detokenizer: decodes tokens that arrive one by one to exactly the text of decoding them all at once.

The text of ids is that of `Tokenizer.decode(ids, skip_special_tokens=True)`. `DecodeStream` of the tokenizers library
does not guarantee this: it fails on byte-fallback tokens whose bytes are not UTF-8.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Sequence
from functools import cache, cached_property
from typing import Any, Protocol

from tokenizers import Tokenizer

_BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")
_UNREADABLE = "\ufffd"
_PER_TOKEN = {"BPEDecoder", "ByteFallback", "CTC", "Metaspace", "Replace", "Strip", "WordPiece"}
"""Decoder steps whose result for a token depends at most on its neighbours and on whether it is the first."""


class Pieces(Protocol):
    """A text that grows; text once returned is never taken back."""

    def push(self, token_id: int) -> str:
        """Add a token that is not a special one; returns the text that became certain."""
        ...

    def rest(self) -> str:
        """The text after the certain text if no token follows."""
        ...


class Detokenizer:
    """How the tokens of one tokenizer become text.

    Args:
        tokenizer: The tokenizer.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.specials: dict[int, str] = {
            token_id: token.content for token_id, token in tokenizer.get_added_tokens_decoder().items() if token.special
        }
        steps = _steps(tokenizer.decoder)
        kinds = [step["type"] for step in steps]
        self._is_byte_level = "ByteLevel" in kinds and set(kinds) <= {"ByteLevel", "Fuse"}
        self._is_local = _is_local(steps)
        self._has_byte_tokens = "ByteFallback" in kinds

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, without special tokens."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def pieces(self, context: Sequence[int] = ()) -> Pieces:
        """A text that follows `context` and repeats nothing of it."""
        if self._is_byte_level:
            return _ByteLevelPieces(self, context)
        if self._is_local and self.anchor is not None:
            return _LocalPieces(self, context)
        return _WholePieces(self, context)

    def is_visible(self, token_id: int) -> bool:
        """Whether a token is part of texts."""
        is_id = 0 <= token_id < 1 << 32 and token_id not in self.specials  # ids in the tokenizers library have 32 bits
        return is_id and self._tokenizer.id_to_token(token_id) is not None

    def is_byte(self, token_id: int) -> bool:
        """Whether this is a byte-fallback token, whose text depends on the bytes around it."""
        return self._has_byte_tokens and _BYTE_TOKEN.fullmatch(self.token(token_id)) is not None

    def token(self, token_id: int) -> str:
        """The token as the vocabulary spells it."""
        return str(self._tokenizer.id_to_token(token_id))

    @cached_property
    def anchor(self) -> int | None:
        """A token with its own text, to put before others so that they are not the first; None if there is none."""
        ids = range(self._tokenizer.get_vocab_size())
        return next((one for one in ids if self._is_anchor(one)), None)

    def _is_anchor(self, token_id: int) -> bool:
        return self.is_visible(token_id) and not self.is_byte(token_id) and self.decode([token_id]).strip().isalnum()


def _steps(decoder: Any) -> list[dict[str, Any]]:
    """The steps of a decoder, in order; empty for a tokenizer that joins its tokens with spaces."""
    if decoder is None:
        return []
    steps: list[dict[str, Any]] = []

    def flatten(step: dict[str, Any]) -> None:
        if step["type"] == "Sequence":
            for inner in step["decoders"]:
                flatten(inner)
        else:
            steps.append(step)

    flatten(json.loads(decoder.__getstate__()))
    return steps


def _is_local(steps: Sequence[dict[str, Any]]) -> bool:
    """Whether a token's text depends only on its neighbours. A step after Fuse sees the whole text."""
    fused = False
    for step in steps:
        if step["type"] == "Fuse":
            fused = True
        elif step["type"] not in _PER_TOKEN or (fused and not _strips_the_first_character(step)):
            return False
    return True


def _strips_the_first_character(step: dict[str, Any]) -> bool:
    return bool(step["type"] == "Strip" and step["start"] <= 1 and step["stop"] == 0)


@cache
def _byte_of_character() -> dict[str, int]:
    """GPT-2's table: printable bytes map to themselves, the others to characters from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + at): byte for at, byte in enumerate(others)}


class _ByteLevelPieces:
    """Pieces for tokens that are bytes; incomplete characters are held back."""

    def __init__(self, tokens: Detokenizer, context: Sequence[int]) -> None:
        self._tokens = tokens
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        before = b""
        for token_id in reversed(context):
            if len(before) >= 4:
                break  # no character is longer
            before = self._bytes(token_id) + before if tokens.is_visible(token_id) else before
        self._decoder.decode(before)
        # The context's text already shows its unfinished character as U+FFFD.
        self._repeated = len(self._pending)

    def push(self, token_id: int) -> str:
        text = self._decoder.decode(self._bytes(token_id))
        if not text:
            return ""
        text, self._repeated = self._without_repeated(text), 0
        return text

    def rest(self) -> str:
        return self._without_repeated(self._pending)

    def _without_repeated(self, text: str) -> str:
        return text[: self._repeated].lstrip(_UNREADABLE) + text[self._repeated :]

    @property
    def _pending(self) -> str:
        return self._decoder.getstate()[0].decode("utf-8", "replace")

    def _bytes(self, token_id: int) -> bytes:
        token, table = self._tokens.token(token_id), _byte_of_character()
        try:
            return bytes(table[character] for character in token)
        except KeyError:  # an added token, whose text is the token itself
            return token.encode()


class _LocalPieces:
    """Pieces for tokens whose text depends on their neighbours, decoded in a moving window.

    A run of byte tokens is text if all of it is UTF-8, otherwise one U+FFFD for each byte. It is held back until it
    ends or is known not to be UTF-8.
    """

    def __init__(self, tokens: Detokenizer, context: Sequence[int]) -> None:
        self._tokens = tokens
        assert tokens.anchor is not None
        self._anchor = tokens.anchor
        self._run: list[int] = []
        self._is_broken = False  # whether the run is not UTF-8
        self._repeated = 0  # bytes of the run that belong to the context
        self._validity = codecs.getincrementaldecoder("utf-8")()
        visible = [token_id for token_id in context if tokens.is_visible(token_id)]
        if not visible:
            self._move_to([])
        elif tokens.is_byte(visible[-1]):
            self._move_to([self._anchor])
            self._continue_run(visible)
        else:
            self._move_to([self._anchor, visible[-1]])

    def push(self, token_id: int) -> str:
        if not self._tokens.is_byte(token_id):
            text = self.rest() + self._after(token_id)
            self._end_run([self._anchor, token_id])
            return text
        if self._is_broken:
            return _UNREADABLE
        self._run.append(token_id)
        if self._extends(token_id):
            return ""
        text = self._unreadable_run()
        self._end_run([self._anchor])
        self._is_broken = True
        return text

    def rest(self) -> str:
        if not self._run:
            return ""
        if self._validity.getstate()[0]:
            return self._unreadable_run()
        return self._tokens.decode([*self._window, *self._run])[len(self._shown) :]

    def _after(self, token_id: int) -> str:
        """The text of a token that ends the run."""
        before = [*self._window, *self._run]
        shown = self._tokens.decode(before) if self._run else self._shown
        return self._tokens.decode([*before, token_id])[len(shown) :]

    def _unreadable_run(self) -> str:
        return _UNREADABLE * (len(self._run) - self._repeated)

    def _continue_run(self, visible: Sequence[int]) -> None:
        """Start the run with the bytes at the end of the context if later bytes may complete them."""
        start = len(visible)
        while start > 0 and self._tokens.is_byte(visible[start - 1]):
            start -= 1
        for at, token_id in enumerate(visible[start:], start):
            if not self._extends(token_id):
                self._is_broken, self._run = True, []
                return
            pending = len(self._validity.getstate()[0])
            self._run = list(visible[at + 1 - pending : at + 1])
        self._repeated = len(self._run)

    def _extends(self, token_id: int) -> bool:
        """Whether the run can still be UTF-8 with this byte."""
        try:
            self._validity.decode(bytes([int(self._tokens.token(token_id)[3:5], 16)]))
        except UnicodeDecodeError:
            return False
        return True

    def _end_run(self, window: list[int]) -> None:
        self._run = []
        self._is_broken = False
        self._repeated = 0
        self._validity.reset()
        self._move_to(window)

    def _move_to(self, window: list[int]) -> None:
        self._window = window
        self._shown = self._tokens.decode(window)


class _WholePieces:
    """Pieces for tokens whose text may depend on all others; nothing is certain before the end."""

    def __init__(self, tokens: Detokenizer, context: Sequence[int]) -> None:
        self._tokens = tokens
        self._context = list(context)
        self._ids: list[int] = []

    def push(self, token_id: int) -> str:
        self._ids.append(token_id)
        return ""

    def rest(self) -> str:
        before = self._tokens.decode(self._context)
        whole = self._tokens.decode([*self._context, *self._ids])
        same = next((at for at, (a, b) in enumerate(zip(before, whole, strict=False)) if a != b), len(before))
        return whole[same:]


class GrowingText:
    """A text whose tokens arrive one by one.

    Args:
        detokenizer: The tokenizer's detokenizer.
        context: The tokens before it.
    """

    def __init__(self, detokenizer: Detokenizer, context: Sequence[int] = ()) -> None:
        self._detokenizer = detokenizer
        self._pieces = detokenizer.pieces(context)
        self.text = ""
        """The text that is certain."""

    def append(self, ids: Sequence[int]) -> str:
        """Add tokens; returns the text that became certain."""
        added = "".join(self._pieces.push(one) for one in ids if self._detokenizer.is_visible(one))
        self.text += added
        return added

    def rest(self) -> str:
        """The text after the certain text if no token follows."""
        return self._pieces.rest()
