"""Text in and out: tokenizer, chat template, and text that grows token by token."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from ptgc.errors import BundleError, UsageError

Message = Mapping[str, Any]


class TextCodec:
    """The tokenizer of a bundle.

    Args:
        folder: Holds tokenizer.json, tokenizer_config.json and, for chat models, chat_template.jinja.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises bare exceptions
            raise BundleError(f"{folder / 'tokenizer.json'} is damaged: {error}", "Export the bundle again.") from error
        self.tokenizer.no_padding()
        self.tokenizer.no_truncation()

    def encode(self, text: str) -> list[int]:
        """Token ids of a text, with the special tokens that the tokenizer adds."""
        return list(self.tokenizer.encode(text).ids)

    def encode_messages(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of a conversation, ending where the assistant is to speak.

        Raises:
            UsageError: The messages are malformed, or the bundle has no chat template.
        """
        return list(self.tokenizer.encode(self.render(messages), add_special_tokens=False).ids)

    def render(self, messages: Sequence[Message]) -> str:
        """The conversation as one text, as the chat template writes it."""
        check_messages(messages)
        from jinja2 import TemplateError

        try:
            return str(self._template.render(messages=list(messages), add_generation_prompt=True, **self._specials))
        except TemplateError as error:
            raise UsageError(f"The chat template refuses these messages: {error}.") from error

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids, special tokens left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))

    def growing(self, prompt_ids: Sequence[int] = ()) -> GrowingText:
        """A text that starts behind a prompt."""
        return GrowingText(self, prompt_ids)

    @cached_property
    def _settings(self) -> dict[str, Any]:
        path = self._folder / "tokenizer_config.json"
        loaded = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        return loaded if isinstance(loaded, dict) else {}

    @cached_property
    def _specials(self) -> dict[str, str]:
        """`bos_token` and the like, which templates name."""
        found = {}
        for name, value in self._settings.items():
            text = value.get("content") if isinstance(value, dict) else value
            if name.endswith("_token") and isinstance(text, str):
                found[name] = text
        return found

    @cached_property
    def _template(self) -> Any:
        """The chat template in a sandbox: it comes with the checkpoint and may not run code."""
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        file = self._folder / "chat_template.jinja"
        source = file.read_text(encoding="utf-8") if file.is_file() else self._settings.get("chat_template")
        if not isinstance(source, str):
            raise UsageError(
                "This bundle has no chat template; its model was not made for messages.",
                "Give a prompt instead.",
            )

        def refuse(message: str) -> None:
            raise UsageError(f"The chat template refuses these messages: {message}.")

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        environment.globals["raise_exception"] = refuse
        environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
        return environment.from_string(source)


def check_messages(messages: Sequence[Message]) -> None:
    """Refuse what is no conversation.

    Raises:
        UsageError: Naming every message that is wrong.
    """
    problems = []
    for number, message in enumerate(messages):
        entry: Any = message  # what users give may be anything
        if not isinstance(entry, Mapping):
            problems.append(f"message {number} is a {type(entry).__name__}, not an object")
        elif not isinstance(entry.get("role"), str) or not isinstance(entry.get("content"), str):
            problems.append(f"message {number} needs the strings 'role' and 'content'; it has {sorted(entry)}")
    if not messages:
        problems.append("there are none")
    if problems:
        raise UsageError(
            f"These chat messages cannot be used: {'; '.join(problems)}.",
            'Write [{"role": "user", "content": "..."}].',
        )


class GrowingText:
    """Turns ids that arrive in pieces into text that never ends within a character.

    A character may span several tokens, and some tokenizers write a space only once they see what follows.
    """

    def __init__(self, codec: TextCodec, prompt_ids: Sequence[int] = ()) -> None:
        self._codec = codec
        self._stream = DecodeStream(ids=list(prompt_ids), skip_special_tokens=True)
        self.ids: list[int] = []
        self.text = ""

    def append(self, ids: Sequence[int]) -> str:
        """Add ids; gives the text that became certain."""
        added = ""
        for token in ids:
            self.ids.append(token)
            added += self._stream.step(self._codec.tokenizer, token) or ""
        self.text += added
        return added


class StopMatcher:
    """Finds the first stop string in a growing text.

    Args:
        stops: The strings.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._longest = max((len(stop) for stop in self._stops), default=0)

    def find(self, text: str, searched: int = 0) -> int | None:
        """Where the earliest stop string starts; `searched` characters are known to hold none."""
        start = max(0, searched - self._longest + 1)
        found = [at for at in (text.find(stop, start) for stop in self._stops) if at >= 0]
        return min(found, default=None)

    def certain(self, text: str) -> int:
        """How much of the text can be shown: all but an end that may become a stop string."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            tail = text[-length:]
            if any(stop.startswith(tail) for stop in self._stops):
                return len(text) - length
        return len(text)
