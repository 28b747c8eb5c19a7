"""A canvas on a terminal while it is filled."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.live import Live
from rich.text import Text

from ptgc.cli.console import notes
from ptgc.runtime import Chunk, GenerationResult, Generator
from ptgc.runtime.request import GenerateOptions, default_new_tokens, prompt_ids
from ptgc.runtime.text import TextCodec

_MASK = "\N{LIGHT SHADE}"


class LiveCanvas:
    """Shows masks, tokens, and those of the last round in bold.

    Args:
        codec: Of the bundle.
        ids: The prompt.
        mask_token_id: Marks positions that are to be filled.
        num_new_tokens: How many masks are appended to a prompt without any.
    """

    def __init__(self, codec: TextCodec, ids: Sequence[int], mask_token_id: int, num_new_tokens: int) -> None:
        self._codec = codec
        self._mask = mask_token_id
        self._ids = [*ids] if mask_token_id in ids else [*ids, *[mask_token_id] * num_new_tokens]
        self._new: set[int] = set()

    def take(self, chunk: Chunk) -> None:
        """Show what a round filled."""
        if not chunk.filled_positions:
            return
        self._new = set(chunk.filled_positions)
        for position, token in zip(chunk.filled_positions, chunk.filled_ids, strict=True):
            self._ids[position] = token

    def __rich__(self) -> Text:
        """The text as it is now."""
        shown, before = Text(), list[int]()
        for style, group in groupby(range(len(self._ids)), self._style):
            ids = [self._ids[position] for position in group]
            if style == "dim":
                shown.append(_MASK * len(ids), style)
                continue
            shown.append(self._codec.growing(before).append(ids), style)
            before += ids
        return shown

    def _style(self, position: int) -> str:
        if self._ids[position] == self._mask:
            return "dim"
        return "bold" if position in self._new else ""


def fill_live(generator: Generator, codec: TextCodec, prompt: Any, options: dict[str, Any]) -> GenerationResult:
    """Fill a canvas, which the terminal shows meanwhile.

    Args:
        generator: Of a bundle whose plan fills a canvas.
        codec: Its tokenizer.
        prompt: Any kind of prompt.
        options: The fields of `GenerateOptions`.
    """
    canvas = generator.bundle.manifest.plan.canvas
    assert canvas is not None, "only canvases are shown"
    ids = prompt_ids(prompt, codec, GenerateOptions.from_names(options).chat)
    room = generator.build.manifest.shapes.max_length - len(ids)
    view = LiveCanvas(codec, ids, canvas.mask_token_id, options["max_new_tokens"] or default_new_tokens(room))
    final = None
    with Live(view, console=notes, transient=True, refresh_per_second=20):
        for chunk in generator.stream(prompt, fills=True, **options):
            view.take(chunk)
            final = chunk.result
    assert final is not None, "a stream ends with its result"
    return final
