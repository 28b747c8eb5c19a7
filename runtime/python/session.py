"""Session: one row of a generator and what it holds."""

from __future__ import annotations

import collections.abc
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ptgc.runtime import _core
from ptgc.runtime.loaded import Loaded
from ptgc.runtime.request import GenerateOptions, Prompt, RunningText, prompt_ids
from ptgc.runtime.results import Chunk, GenerationResult
from ptgc.runtime.streaming import stream

if TYPE_CHECKING:
    from typing_extensions import Self


class Session:
    """Text that stays in the cache between calls: conversations, edits, many continuations of one start.

    A session takes one row of its generator until it is closed.
    """

    def __init__(self, core: _core.Session, loaded: Loaded) -> None:
        self._core = core
        self._loaded = loaded

    @property
    def token_ids(self) -> list[int]:
        """Everything in the session: what was appended and what was generated."""
        return list(self._core.tokens)

    def __len__(self) -> int:
        return int(self._core.length)

    def append(self, prompt: Prompt) -> None:
        """Add a text, token ids or chat messages; they are read with the next `generate`.

        Raises:
            CapacityError: The session would outgrow the build.
        """
        self._core.append(prompt_ids(prompt, self._loaded.codec))

    def generate(self, **options: Any) -> GenerationResult:
        """Continue the session's text, which keeps what was generated.

        Args:
            **options: The fields of `GenerateOptions`.
        """
        chosen = GenerateOptions.from_names(options).of_text(0)
        text = RunningText(self._loaded, [], chosen, held=len(self))
        result = self._core.generate(text.request, (lambda _, ids: text.append(ids)[1]) if text.stops else None)
        finished = text.finish(result)
        self.rewind(len(result.token_ids) - len(finished.token_ids))
        return finished

    def stream(self, **options: Any) -> collections.abc.Generator[Chunk]:
        """Continue the session's text, piece by piece; closing the stream, or leaving its loop, cancels it.

        The session keeps the tokens of the chunks that were taken, and once the last one has come, those of its result.

        Args:
            **options: The fields of `GenerateOptions`.

        Yields:
            Chunks; the last one holds the result.
        """
        text = RunningText(self._loaded, [], GenerateOptions.from_names(options).of_text(0), held=len(self))
        return stream(text, lambda *hooks: self._core.generate(text.request, *hooks), self.rewind)

    def fork(self) -> Session:
        """Another session with the same text; nothing of it is read again.

        Raises:
            BusyError: No row is free.
        """
        return Session(self._core.fork(), self._loaded)

    def rewind(self, num_tokens: int) -> None:
        """Drop the last tokens."""
        if num_tokens:
            self._core.rewind(num_tokens)

    def reset(self) -> None:
        """Drop everything."""
        self._core.reset()

    def cancel(self) -> None:
        """End the generation that is under way, from any thread."""
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
