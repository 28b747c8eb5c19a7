"""TextCodec: converts between text and tokens with a bundle's tokenizer and chat templates."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from ptgc.runtime.chat_template import ChatOptions, ChatTemplates, Message, readable
from ptgc.runtime.detokenizer import Detokenizer, GrowingText
from ptgc.runtime.tokenizer_files import FolderFiles, TokenizerFiles, read_tokenizer


class TextCodec:
    """A tokenizer and its chat templates.

    Args:
        files: tokenizer.json, tokenizer_config.json and, for chat models, chat_template.jinja; or the folder that holds
            them, if it belongs to no bundle.
    """

    def __init__(self, files: TokenizerFiles | str | Path) -> None:
        self._files = files if isinstance(files, TokenizerFiles) else FolderFiles(Path(files))
        self.tokenizer = read_tokenizer(self._files)
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of a text, with the special tokens that the tokenizer adds; U+FFFD for lone surrogates."""
        return list(self.tokenizer.encode(readable(text), add_special_tokens=add_special_tokens).ids)

    def encode_behind(self, text: str) -> list[int]:
        """Token ids of a text that follows others: without special tokens, and without the space that begins a text."""
        line_break = self.encode("\n", add_special_tokens=False)
        behind = self.encode("\n" + text, add_special_tokens=False)
        if behind[: len(line_break)] == line_break:
            return behind[len(line_break) :]
        return self.encode(text, add_special_tokens=False)  # the line break merged with the text's beginning

    def encode_messages(self, messages: Sequence[Message], options: ChatOptions | None = None) -> list[int]:
        """Token ids of a conversation, ending where the assistant's turn begins.

        Raises:
            UsageError: The messages are malformed, or the bundle has no chat template.
            BundleError: The chat template is damaged, or exceeds its budget.
        """
        return self.encode(self.render(messages, options), add_special_tokens=False)

    def render(self, messages: Sequence[Message], options: ChatOptions | None = None) -> str:
        """The conversation as one text, as the chat template writes it."""
        return self.chat_templates.render(messages, options or ChatOptions())

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, without special tokens."""
        return self.detokenizer.decode(ids)

    def growing(self, context: Sequence[int] = ()) -> GrowingText:
        """A growing text that follows other tokens."""
        return GrowingText(self.detokenizer, context)

    @cached_property
    def detokenizer(self) -> Detokenizer:
        """The detokenizer of its tokenizer."""
        return Detokenizer(self.tokenizer)

    @cached_property
    def chat_templates(self) -> ChatTemplates:
        """The chat templates; false if there are none."""
        return ChatTemplates(self._files)
