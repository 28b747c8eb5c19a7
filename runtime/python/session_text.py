"""SessionText: what a session holds, as one text or one conversation that is continued piece by piece."""

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
    """Which tokens of a session are which text. A change returns a new object and all tokens of the session.

    Tokens that the model wrote stay. Those of an appended text are replaced if the longer text is tokenized
    differently.
    """

    fixed: int = 0
    """Number of leading tokens that further text does not change."""
    unread: str = ""
    """The text of the tokens after them."""
    messages: tuple[Message, ...] = ()
    """The conversation, without the answer that is being written; empty if the session holds none."""
    chat: ChatOptions = field(default_factory=ChatOptions)
    """How it is rendered."""
    rendered: str = ""
    """The conversation as the chat template wrote it."""
    length: int = 0
    """Number of tokens of `rendered`."""
    answered: int = 0
    """Number of tokens up to the end of its last answer."""
    answered_text: str = ""
    """The part of `rendered` that these tokens are."""

    def settled(self, length: int) -> SessionText:
        """The state of a session whose `length` tokens were generated, given as ids, or left by a rewind."""
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
        """Continue the conversation that the session holds; text written since then is the assistant's answer.

        Raises:
            UsageError: The session holds a text that is not a conversation, or the longer conversation, as the chat
                template writes it, does not begin with what the session holds.
        """
        if held and not self.messages:
            raise UsageError(
                "The session holds a text that did not begin as chat messages, which cannot continue it.",
                "Append a text, reset the session, or open another one.",
            )
        # continue_final_message applies only to the messages that it was given with.
        chosen = replace(self.chat, continue_final_message=False) if chat is None else chat
        if len(held) == self.length:  # no new answer: the tokens after the last answer are replaced
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
        """The conversation with the assistant's answer added, unless the new messages begin with it."""
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
    """The tokens of a text that follows others: those of the whole text if its tokens begin with the others."""
    whole = codec.encode(before + text, add_special_tokens=not is_chat)
    if whole[: len(held)] == list(held):
        return whole[len(held) :]
    return codec.encode_behind(text)
