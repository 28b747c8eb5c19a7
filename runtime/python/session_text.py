"""SessionText: what a session holds, as one text or one conversation that its pieces continue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ptgc.errors import UsageError
from ptgc.runtime.chat_template import ChatOptions, content_text
from ptgc.runtime.text import TextCodec

Message = Mapping[str, Any]


@dataclass(frozen=True)
class SessionText:
    """Which tokens of a session are which text. Every change gives another one, and all tokens of the session with it.

    Tokens that the model wrote stay; those of an appended text are replaced where the longer text has others.
    """

    fixed: int = 0
    """Tokens that a further text leaves as they are."""
    unread: str = ""
    """The text that the tokens behind them are."""
    messages: tuple[Message, ...] = ()
    """The conversation, without the answer that is being written; empty where the session holds none."""
    chat: ChatOptions = field(default_factory=ChatOptions)
    """How it is rendered."""
    rendered: str = ""
    """The text that the chat template made of it."""
    length: int = 0
    """How many tokens it is."""
    answered: int = 0
    """Tokens up to the end of the last answer that it contains."""
    answered_text: str = ""
    """Which part of `rendered` they are."""

    def settled(self, length: int) -> SessionText:
        """The same where a session has `length` tokens that were written, given as ids, or left by a rewind."""
        if length == 0:
            return SessionText()
        kept = self if length >= self.length else SessionText()
        return replace(kept, fixed=length, unread="")

    def with_text(self, codec: TextCodec, held: Sequence[int], text: str) -> tuple[SessionText, list[int]]:
        """Continue what the session holds with a text."""
        whole = self.unread + text
        if self.fixed == 0:
            return replace(self, unread=whole), codec.encode(whole)
        fixed = list(held[: self.fixed])
        return replace(self, unread=whole), fixed + _continuation(codec, fixed, codec.decode(fixed), whole)

    def with_messages(
        self, codec: TextCodec, held: Sequence[int], messages: Sequence[Message], chat: ChatOptions | None
    ) -> tuple[SessionText, list[int]]:
        """Continue the conversation that the session holds; what was written since is the assistant's answer.

        Raises:
            UsageError: The session holds a text that is no conversation, or the chat template writes the longer
                conversation in a way that does not begin with what the session holds.
        """
        if held and not self.messages:
            raise UsageError(
                "The session holds a text that did not begin as chat messages, which cannot continue it.",
                "Append a text, reset the session, or open another one.",
            )
        # That the model goes on with a message of its own is a matter of the messages at hand.
        chosen = replace(self.chat, continue_final_message=False) if chat is None else chat
        if len(held) == self.length:  # no answer: the tokens behind the last one are written anew
            start, before, conversation = self.answered, self.answered_text, (*self.messages, *messages)
        else:
            answer, ending = _spelled(codec, held, self.length)
            start, before = len(held), self.rendered + answer + ending
            conversation = (*self._with_answer(answer, messages), *messages)
        text = codec.render(conversation, chosen)
        if not text.startswith(before):
            raise UsageError(
                "The chat template writes this conversation in another way once it goes on, so that it does not "
                "continue what the session holds.",
                "Reset the session and append all messages.",
            )
        ids = list(held[:start])
        ids += _continuation(codec, ids, before, text[len(before) :], is_chat=True)
        return SessionText(len(ids), "", conversation, chosen, text, len(ids), start, before), ids

    def _with_answer(self, answer: str, messages: Sequence[Message]) -> tuple[Message, ...]:
        """The conversation with the assistant's answer, unless the messages begin with it."""
        if self.chat.continue_final_message:
            final = self.messages[-1]
            return (*self.messages[:-1], {**final, "content": content_text(final) + answer})
        if messages and messages[0].get("role") == "assistant":
            return self.messages
        return (*self.messages, {"role": "assistant", "content": answer})


def _spelled(codec: TextCodec, held: Sequence[int], start: int) -> tuple[str, str]:
    """The text of the tokens from `start` on, and the special tokens that end it, spelled out."""
    specials = codec.detokenizer.specials
    end = len(held)
    while end > start and held[end - 1] in specials:
        end -= 1
    growing = codec.growing(held[:start])
    parts = [growing.append([token]) + specials.get(token, "") for token in held[start:end]]
    return "".join(parts) + growing.rest(), "".join(specials[token] for token in held[end:])


def _continuation(codec: TextCodec, held: Sequence[int], before: str, text: str, *, is_chat: bool = False) -> list[int]:
    """The tokens of a text behind others, which are those of the whole where the whole begins with the others."""
    whole = codec.encode(before + text, add_special_tokens=not is_chat)
    if whole[: len(held)] == list(held):
        return whole[len(held) :]
    return codec.encode_behind(text)
