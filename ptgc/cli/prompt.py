"""The prompt of `ptgc run`: a text, token ids, or chat messages with their options."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ptgc.errors import UsageError
from ptgc.spec.json_file import UnreadableError, parse_json, read_regular
from ptgc.spec.limits import MAX_JSON_BYTES

_FORM = 'Write [{"role": "user", "content": "..."}], or {"messages": [...], "tools": [...]}.'


def read_prompt(text: str | None, ids: str | None, messages: Path | None) -> tuple[Any, dict[str, Any]]:
    """The given prompt, and the options that came with chat messages.

    Raises:
        UsageError: No prompt or several were given, or it cannot be read.
    """
    given = [
        name for name, value in (("-p", text), ("--prompt-ids", ids), ("--messages", messages)) if value is not None
    ]
    if len(given) != 1:
        raise UsageError(
            f"Give one of -p, --prompt-ids and --messages; given: {', '.join(given) or 'none'}.",
            'For example: ptgc run BUNDLE -p "Once upon a time"',
        )
    if messages is not None:
        return _read_messages(messages)
    return (text, {}) if ids is None else (read_ids(ids, "--prompt-ids"), {})


def read_ids(text: str, option: str) -> list[int]:
    """Parse comma-separated token ids.

    Raises:
        UsageError: It is something else.
    """
    try:
        return [int(part) for part in text.replace(" ", "").split(",") if part]
    except ValueError as error:
        raise UsageError(f"{option} is '{text}'; it must be numbers with commas between.") from error


def read_object(text: str, option: str) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        UsageError: It is something else.
    """
    try:
        found = parse_json(text)
    except UnreadableError as error:
        raise UsageError(f"{option} {error}.") from error
    if not isinstance(found, dict):
        raise UsageError(f"{option} is '{text}'; it must be a JSON object.")
    return found


def _read_messages(path: Path) -> tuple[Any, dict[str, Any]]:
    from ptgc.runtime.chat_template import ChatOptions, check_messages
    from ptgc.runtime.option_values import option_types

    try:
        content = sys.stdin.buffer.read(MAX_JSON_BYTES) if str(path) == "-" else read_regular(path)
        found = parse_json(content)
    except UnreadableError as error:
        raise UsageError(f"The messages in {path} cannot be read: it {error}.", _FORM) from error
    options = {}
    if isinstance(found, dict):
        options = {name: value for name, value in found.items() if name != "messages"}
        found = found.get("messages")
    if not isinstance(found, list):
        raise UsageError(f"{path} holds no list of messages.", _FORM)
    allowed = option_types(ChatOptions)
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        raise UsageError(f"{path} has '{unknown[0]}' beside the messages.", f"There may be: {', '.join(allowed)}.")
    check_messages(found)
    return found, options
