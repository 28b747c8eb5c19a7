"""Chat templates: render a conversation as a text in the format that its model was trained on.

Templates have the same variables and functions as in transformers' `apply_chat_template`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from ptgc.errors import UsageError
from ptgc.runtime.template_runner import TemplateRunner
from ptgc.runtime.tokenizer_files import TokenizerFiles

Message = Mapping[str, Any]

_FORM = 'Write [{"role": "user", "content": "..."}].'
_END = "CONTINUE_FINAL_MESSAGE_TAG "
_REASONING = ("reasoning_content", "thinking", "reasoning")
"""Names under which messages carry reasoning. Templates read the first name, some the second."""


@dataclass(frozen=True)
class ChatOptions:
    """How chat messages become a text."""

    tools: Sequence[Mapping[str, Any]] | None = None
    """Functions that the model may call, as JSON schemas."""
    documents: Sequence[Mapping[str, Any]] | None = None
    """Documents that the model may quote, with `title` and `text`."""
    template_arguments: Mapping[str, Any] = field(default_factory=dict)
    """Further variables of the template, such as `enable_thinking`."""
    chat_template: str | None = None
    """Which of several templates, by name; None takes `tool_use` if tools are given and it exists, else `default`."""
    add_generation_prompt: bool | None = None
    """Whether to end where the assistant's turn begins; None means yes, unless the final message is continued."""
    continue_final_message: bool = False
    """Whether to end within the last message, so that the model continues it."""

    @property
    def ends_with_prompt(self) -> bool:
        """Whether the text ends where the assistant's turn begins."""
        chosen = self.add_generation_prompt
        return not self.continue_final_message if chosen is None else chosen

    def problems(self) -> list[str]:
        """Contradictions between options, one sentence each."""
        if self.add_generation_prompt and self.continue_final_message:
            return ["add_generation_prompt and continue_final_message exclude each other."]
        return []


class ChatTemplates:
    """The chat templates of a tokenizer.

    Args:
        files: tokenizer_config.json, and, if they exist, chat_template.jinja and additional_chat_templates/NAME.jinja.
    """

    def __init__(self, files: TokenizerFiles) -> None:
        settings = files.read_json("tokenizer_config.json")
        self._sources = _read_sources(files, settings)
        self._specials = dict(_special_tokens(settings))
        self._runner = TemplateRunner()

    def __bool__(self) -> bool:
        return bool(self._sources)

    def render(self, messages: Sequence[Message], options: ChatOptions) -> str:
        """The conversation as one text.

        Raises:
            UsageError: The messages are malformed, the template refuses them, or there is none.
            BundleError: The template is damaged, or exceeds its budget.
        """
        check_messages(messages)
        source = self._source(options)
        chat = [_with_reasoning(_without_nulls(message)) for message in plain_data(list(messages))]
        final = _mark_end(chat[-1], source) if options.continue_final_message else None
        # The same order as in transformers: the caller's arguments replace special tokens of the same name.
        variables = {
            **self._specials,
            **plain_data(dict(options.template_arguments)),
            "messages": chat,
            "tools": plain_data(options.tools),
            "documents": plain_data(options.documents),
            "add_generation_prompt": options.ends_with_prompt,
        }
        text = readable(self._runner.render(source, variables))
        return text if final is None else _cut_at_end(text, final)

    def _source(self, options: ChatOptions) -> str:
        if not self._sources:
            raise UsageError(
                "This bundle has no chat template; its model was not made for messages.", "Give a prompt instead."
            )
        name = options.chat_template
        if name is None:
            name = "tool_use" if options.tools is not None and "tool_use" in self._sources else "default"
        if name not in self._sources:
            raise UsageError(
                f"This bundle has no chat template '{name}'.",
                f"Choose one with chat_template: {', '.join(sorted(self._sources))}.",
            )
        return self._sources[name]


def check_messages(messages: Sequence[Message]) -> None:
    """Refuse messages that are not a conversation.

    Raises:
        UsageError: The error names every wrong message.
    """
    problems = []
    for number, message in enumerate(messages):
        entry: Any = message  # what users give may be anything
        if not isinstance(entry, Mapping):
            problems.append(f"message {number} is a {type(entry).__name__}, not an object")
        elif not isinstance(entry.get("role"), str) or not _has_content(entry):
            problems.append(
                f"message {number} needs 'role', a string, and 'content', a string or a list of objects; "
                f"it has {sorted(map(str, entry))}"
            )
    if not messages:
        problems.append("there are none")
    if problems:
        raise UsageError(f"These chat messages cannot be used: {'; '.join(problems)}.", _FORM)


def _has_content(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    if content is None:  # a message may consist of tool calls or of reasoning
        return any(value is not None for name, value in message.items() if name not in ("role", "content"))
    if isinstance(content, str):
        return True
    return isinstance(content, Sequence) and all(isinstance(part, Mapping) for part in content)


def content_text(message: Message) -> str:
    """The text of a message, for use without a template."""
    content = message.get("content") or ""
    return content if isinstance(content, str) else "".join(str(part.get("text", "")) for part in content)


def plain_data(value: Any) -> Any:
    """Convert to JSON's plain types; anything else becomes the name of its type.

    Raises:
        UsageError: The value contains itself.
    """
    try:
        return _plain(value)
    except RecursionError as error:
        raise UsageError("Chat messages are nested without end.", _FORM) from error


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Mapping):
        return {_plain_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if callable(getattr(value, "model_dump", None)):  # pydantic's models, which clients of OpenAI's API give
        return _plain(value.model_dump())
    if callable(getattr(value, "item", None)) and getattr(value, "ndim", None) == 0:  # a numpy number
        return _plain(value.item())
    return f"<{type(value).__name__}>"


def _plain_key(key: Any) -> Any:
    plain = _plain(key)
    return f"<{type(key).__name__}>" if isinstance(plain, list | dict) else plain


def readable(text: str) -> str:
    """The text with U+FFFD instead of lone surrogates, which stand for bytes that were not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return str.__str__(text)  # gives the value of a string enum


def _without_nulls(message: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in message.items() if value is not None}


def _with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    found = next((message[name] for name in _REASONING if name in message), None)
    return message if found is None else {"thinking": found, **message, "reasoning_content": found}


def _mark_end(message: dict[str, Any], template: str) -> str:
    """Mark where the content of the final message ends; returns the text before the mark."""
    content = message.get("content")
    parts = [part for part in content if "text" in part] if isinstance(content, list) else []
    if "content" not in template or not (isinstance(content, str) or parts):
        raise UsageError("continue_final_message is set, and the final message has no text to continue.", _FORM)
    if isinstance(content, str):
        message["content"] = content + _END
        return content
    text = str(parts[-1]["text"])
    parts[-1]["text"] = text + _END
    return text


def _cut_at_end(text: str, final: str) -> str:
    at = text.rfind(_END.strip())
    if at < 0 or final.strip() not in text:
        raise UsageError(
            "continue_final_message is set, and the chat template leaves the final message out.",
            "Leave continue_final_message out, or write the text yourself and give it as a prompt.",
        )
    return text[:at] if text.startswith(_END, at) else text[:at].rstrip()  # the template trims


def _special_tokens(settings: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Special tokens by name, such as `bos_token`, for use in templates."""
    found = [(name, value.get("content") if isinstance(value, Mapping) else value) for name, value in settings.items()]
    return [(name, text) for name, text in found if name.endswith("_token") and isinstance(text, str)]


def _read_sources(files: TokenizerFiles, settings: Mapping[str, Any]) -> dict[str, str]:
    """Templates by name, from files or from the tokenizer's settings."""
    listed = {
        PurePosixPath(name).stem: name for name in files.names("additional_chat_templates") if name.endswith(".jinja")
    }
    texts = {name: files.read_text(path) for name, path in listed.items()}
    texts["default"] = files.read_text("chat_template.jinja") or texts.get("default")
    if any(text is not None for text in texts.values()):
        return {name: text for name, text in texts.items() if text is not None}
    found = settings.get("chat_template")
    if isinstance(found, list):
        found = {one.get("name"): one.get("template") for one in found if isinstance(one, Mapping)}
    templates = found if isinstance(found, Mapping) else {"default": found}
    return {name: text for name, text in templates.items() if isinstance(name, str) and isinstance(text, str)}
