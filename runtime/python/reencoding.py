"""Reencoding: converts tokens between the vocabularies of a target and a drafter with its own tokenizer."""

from __future__ import annotations

from collections.abc import Sequence

from ptgc.runtime.text import TextCodec


class Reencoding:
    """Decodes with one tokenizer and encodes with the other.

    Args:
        target: The target's tokenizer.
        drafter: The drafter's tokenizer.
    """

    def __init__(self, target: TextCodec, drafter: TextCodec) -> None:
        self._target = target
        self._drafter = drafter

    def to_drafter(self, ids: Sequence[int], context: int) -> list[int]:
        """The drafter's ids for the text after the first `context` of the target's ids."""
        return _reencode(self._target, self._drafter, ids, context)

    def to_target(self, ids: Sequence[int], context: int) -> list[int]:
        """The target's ids for the text after the first `context` of the drafter's ids."""
        return _reencode(self._drafter, self._target, ids, context)


def _reencode(source: TextCodec, wanted: TextCodec, ids: Sequence[int], context: int) -> list[int]:
    """Encode the text after `context`; only a text from its start gets special tokens."""
    text = source.decode(ids)
    if context == 0:
        return wanted.encode(text)
    before = source.decode(ids[:context])
    if not text.startswith(before):
        return []  # the end changes how the context decodes, for instance if it completes a character
    return wanted.encode_behind(text[len(before) :])
