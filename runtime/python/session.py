"""Session: one row of a generator and what it holds."""

from __future__ import annotations

import collections.abc
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ptgc.errors import PtgcError
from ptgc.runtime import _core
from ptgc.runtime.infill import check_masks
from ptgc.runtime.loaded import Loaded
from ptgc.runtime.request import GenerateOptions, Prompt, RunningText, chat_options, is_messages, prompt_ids
from ptgc.runtime.results import Chunk, GenerationResult
from ptgc.runtime.session_text import SessionText
from ptgc.runtime.streaming import stream

if TYPE_CHECKING:
    from typing import Self


class Session:
    """Text that stays in the cache between calls: for conversations, edits, or several continuations of one start.

    A session takes one row of its generator until it is closed.
    """

    def __init__(self, core: _core.Session, loaded: Loaded) -> None:
        self._core = core
        self._loaded = loaded
        self._text = SessionText()
        self._known = 0  # tokens that `_text` covers
        self._source: list[int] = []  # the source, which is not part of the session's tokens

    @property
    def token_ids(self) -> list[int]:
        """Everything in the session: what was appended and what was generated."""
        return list(self._core.tokens)

    def __len__(self) -> int:
        return int(self._core.length)

    def append(self, prompt: Prompt, **options: Any) -> None:
        """Add a text, token ids or chat messages; they are read by the next `generate`.

        A session is one text. A text continues what the session holds, and is tokenized together with it. Messages
        continue its conversation, in which generated text is the assistant's answer.

        Args:
            prompt: What to add.
            **options: The fields of `ChatOptions`, for chat messages; later messages keep those of the first ones.

        Raises:
            CapacityError: The session would outgrow the build.
            UsageError: The text spells the mask token of a canvas, which only token ids may hold; or the longer
                conversation, as the chat template writes it, does not begin with what the session holds; or the session
                began as a text.
        """
        codec = self._loaded.codec
        chat = chat_options(options)
        held = self._source if self._loaded.has_source else self.token_ids
        if len(held) != self._known:  # an answer was written, perhaps cut short by an error
            self._settle(len(held))
        if codec is not None and is_messages(prompt):
            given = chat if options else None
            text, ids = self._text.with_messages(codec, held, prompt, given)  # type: ignore[arg-type]  # as checked
        elif codec is not None and isinstance(prompt, str) and not options:
            text, ids = self._text.with_text(codec, held, prompt)
        else:
            ids = held + prompt_ids(prompt, codec, chat)
            text = self._text.settled(len(ids))
        added = self._loaded.masks_in(ids) - self._loaded.masks_in(held)
        check_masks(prompt, added, self._loaded, infill=False)
        self._hold(held, ids)
        self._text, self._known = text, len(ids)

    def generate(self, **options: Any) -> GenerationResult:
        """Continue the session's text, which keeps what was generated.

        Args:
            **options: The fields of `GenerateOptions`.

        The texts of successive calls are pieces of the session's text. A piece that ends within a character ends with
        U+FFFD, and the next one begins with the whole character.
        """
        text = self._begin(GenerateOptions.from_names(options).of_text(0, self._loaded.plan))
        result = self._core.generate(text.request, (lambda _, ids: text.append(ids)[1]) if text.stops else None)
        return self._finish(text, result)

    def _begin(self, options: GenerateOptions) -> RunningText:
        """A text that continues what the session holds."""
        return RunningText(self._loaded, [], options, held=len(self), context=self.token_ids)

    def _finish(self, text: RunningText, result: _core.Result) -> GenerationResult:
        """The result; the session keeps only the tokens of the result."""
        finished = text.finish(result)
        self.rewind(len(result.token_ids) - len(finished.token_ids))
        return finished

    def stream(self, *, fills: bool = False, **options: Any) -> collections.abc.Generator[Chunk]:
        """Continue the session's text, piece by piece; closing the stream, or leaving its loop, cancels it.

        The session keeps the tokens of the chunks that were taken, and after the last chunk those of its result.

        Args:
            fills: Whether to yield also what every round fills into a canvas, in chunks without text.
            **options: The fields of `GenerateOptions`.

        Yields:
            Chunks; the last one holds the result.
        """
        text = self._begin(GenerateOptions.from_names(options).of_text(0, self._loaded.plan))
        write = self._core.generate
        return stream(text, lambda *hooks: write(text.request, *hooks), self.rewind, fills=fills)

    def _settle(self, length: int) -> None:
        self._text, self._known = self._text.settled(length), length

    def _hold(self, held: list[int], ids: list[int]) -> None:
        """Change the session's tokens, or those of its source, to `ids`; on failure they are unchanged."""
        kept = next((at for at, (old, new) in enumerate(zip(held, ids, strict=False)) if old != new), None)
        kept = min(len(held), len(ids)) if kept is None else kept
        if kept == len(held):
            self._core.append(ids[kept:])
        elif self._loaded.has_source:
            self._replace(self._core.reset, held, ids)
        else:
            self._replace(lambda: self._core.rewind(len(held) - kept), held[kept:], ids[kept:])
        self._source = ids if self._loaded.has_source else []

    def _replace(self, drop: Callable[[], None], old: list[int], new: list[int]) -> None:
        drop()
        try:
            if new:
                self._core.append(new)
        except PtgcError:
            self._core.append(old)
            raise

    def fork(self) -> Session:
        """Another session with the same text, which is not read again.

        Raises:
            BusyError: No row is free.
        """
        fork = Session(self._core.fork(), self._loaded)
        fork._text, fork._known, fork._source = self._text, self._known, self._source
        return fork

    def rewind(self, num_tokens: int) -> None:
        """Drop the last tokens."""
        if num_tokens:
            self._core.rewind(num_tokens)
            if not self._loaded.has_source:
                self._settle(len(self))

    def reset(self) -> None:
        """Drop everything."""
        self._core.reset()
        self._text, self._known, self._source = SessionText(), 0, []

    def cancel(self) -> None:
        """End a running generation; may be called from any thread."""
        self._core.cancel()

    def close(self) -> None:
        """Give the row back."""
        self._core.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
