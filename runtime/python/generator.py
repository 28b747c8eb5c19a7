"""Generator: a loaded build that writes text."""

from __future__ import annotations

import collections.abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

from ptgc.errors import BundleError, UsageError
from ptgc.runtime import _core
from ptgc.runtime.costs import read_costs
from ptgc.runtime.infill import check_masks
from ptgc.runtime.libraries import onnxruntime_library, open_cuda_libraries
from ptgc.runtime.load_options import LoadOptions
from ptgc.runtime.loaded import Loaded
from ptgc.runtime.reencoding import Reencoding
from ptgc.runtime.request import GenerateOptions, Prompt, RunningText, is_batch, prompt_ids
from ptgc.runtime.results import Chunk, GenerationResult
from ptgc.runtime.session import Session
from ptgc.runtime.streaming import stream
from ptgc.runtime.text import TextCodec
from ptgc.runtime.tokenizer_files import tokenizer_files
from ptgc.runtime.tuning import read_tuning
from ptgc.spec.acceptance import AcceptanceRule
from ptgc.spec.bundle import Build, Bundle, open_build, open_bundle
from ptgc.spec.replacement import read_unreplaced
from ptgc.spec.threads import check_num_threads

if TYPE_CHECKING:
    from typing import Self


def default_num_threads() -> int:
    """Number of processors that this process may use."""
    return _core.available_processors()


def load_core(
    build: Build,
    *,
    num_threads: int,
    costs: Mapping[str, Mapping[int, float]] | None = None,
    reencoding: Reencoding | None = None,
    options: LoadOptions | None = None,
    tuned_overlap: bool | None = None,
    verify: bool = False,
) -> _core.Generator:
    """The C++ generator of a build; `costs` are seconds of a round by role and width.

    `tuned_overlap` says whether overlap paid with these threads when it was tried; None if it was not.

    With `verify` it checks the hash of every file of the build before anything parses it.

    Raises:
        UsageError: The number of threads is out of range.
        BackendError: The engine library is not installed, or refuses the engine.
    """
    check_num_threads(num_threads)
    chosen = options or LoadOptions()
    if build.manifest.device == "cuda":
        open_cuda_libraries()
    return _core.Generator(
        build.path,
        num_threads=num_threads,
        library=onnxruntime_library(),
        costs={role: dict(curve) for role, curve in (costs or {}).items()},
        draft_length=chosen.draft_length,
        num_draft_tokens=-1 if chosen.num_draft_tokens is None else chosen.num_draft_tokens,
        tree=None if chosen.tree is None else list(chosen.tree.parents),
        gains=list(chosen.gains or ()),
        acceptance=chosen.acceptance,
        ngram_match=chosen.ngram_match,
        overlap=chosen.overlap,
        tuned_overlap=tuned_overlap,
        datastore=str(chosen.datastore or ""),
        drafter=chosen.drafter or "",
        wait_seconds=-1.0 if chosen.wait is None else chosen.wait,
        max_waiting=-1 if chosen.max_waiting is None else chosen.max_waiting,
        to_drafter=reencoding.to_drafter if reencoding else None,
        to_target=reencoding.to_target if reencoding else None,
        verify=verify,
    )


class Generator:
    """A loaded build of a bundle; safe to use from many threads.

    Args:
        bundle: The bundle's directory.
        device: Kind of device to run on.
        build: Name of the build; None takes the newest one for the device.
        num_threads: Threads of the engine; None takes what `ptgc tune` found here, or all available processors.
        verify: Check the hash of every file that is read, before anything parses it.
        **options: The fields of `LoadOptions`.

    Raises:
        BundleError: There is no such bundle or build, or it was changed.
        UsageError: An option that is unknown or out of range.
        BackendError: The build's backend is not installed, or refuses it.
    """

    def __init__(
        self,
        bundle: str | Path,
        *,
        device: str = "cpu",
        build: str | None = None,
        num_threads: int | None = None,
        verify: bool = True,
        **options: Any,
    ) -> None:
        chosen_options = LoadOptions.from_names(options)
        wanted = (device, build, num_threads, verify, chosen_options)
        self._loaded = read_unreplaced(Path(bundle), lambda: self._load(bundle, *wanted))

    @staticmethod
    def _load(
        bundle: str | Path,
        device: str,
        build: str | None,
        num_threads: int | None,
        verify: bool,
        chosen_options: LoadOptions,
    ) -> Loaded:
        opened = open_bundle(bundle)
        chosen = opened.build(build, device)
        tuning = read_tuning(chosen, opened.manifest.plan)
        threads = num_threads
        if threads is None:
            threads = tuning.num_threads if tuning else default_num_threads()
        if tuning is not None:
            chosen_options = tuning.applied_to(chosen_options, opened.manifest.plan)
        curve = read_costs(chosen, threads, chosen_options.drafter)
        files = tokenizer_files(opened, opened.manifest.tokenizer)
        others = tokenizer_files(opened, opened.manifest.drafter_tokenizer)
        codec = TextCodec(files) if files else None
        reencoding = Reencoding(codec, TextCodec(others)) if codec and others else None
        core = load_core(
            chosen,
            num_threads=threads,
            costs=curve.medians_by_role() if curve else None,
            options=chosen_options,
            reencoding=reencoding,
            tuned_overlap=tuning.overlap if tuning and tuning.num_threads == threads else None,
            verify=verify,
        )
        if open_build(chosen.path).manifest != chosen.manifest:
            raise BundleError(f"Build '{chosen.manifest.id}' was replaced while it was loaded.", "Load it again.")
        plan = opened.manifest.plan
        if chosen_options.acceptance is not None:
            plan = plan.accepting(AcceptanceRule(chosen_options.acceptance))
        return Loaded(opened, chosen, core, codec, plan)

    @property
    def bundle(self) -> Bundle:
        """The bundle."""
        return self._loaded.bundle

    @property
    def build(self) -> Build:
        """The build."""
        return self._loaded.build

    @property
    def core(self) -> _core.Generator:
        """The C++ generator."""
        return self._loaded.core

    @property
    def codec(self) -> TextCodec | None:
        """The tokenizer; None if the bundle has none."""
        return self._loaded.codec

    @overload
    def generate(self, prompt: str, **options: Any) -> GenerationResult: ...
    @overload
    def generate(self, prompt: Sequence[int], **options: Any) -> GenerationResult: ...
    @overload
    def generate(self, prompt: Sequence[Mapping[str, Any]], **options: Any) -> GenerationResult: ...
    @overload
    def generate(self, prompt: Sequence[str], **options: Any) -> list[GenerationResult]: ...
    @overload
    def generate(self, prompt: Sequence[Sequence[int]], **options: Any) -> list[GenerationResult]: ...

    def generate(self, prompt: Any, **options: Any) -> Any:
        """Write the continuation of a prompt, or of each of a list of prompts.

        Args:
            prompt: A text, token ids, chat messages, or a list of any of them, which is a batch.
            **options: The fields of `GenerateOptions`.

        Returns:
            A result, or a list of results in the order of the prompts.

        Sampled texts of a list have different seeds: `seed`, `seed + 1`, ... in the order of the prompts.

        Raises:
            CapacityError: A prompt, or a prompt and `max_new_tokens`, does not fit the build.
            UsageError: A prompt is empty, an id is outside the vocabulary, or an option is unknown.
        """
        chosen = GenerateOptions.from_names(options)
        prompts = list(prompt) if is_batch(prompt) else [prompt]
        if not prompts:
            return []
        running = [self._start(one, chosen.of_text(number, self._loaded.plan)) for number, one in enumerate(prompts)]
        watched = any(text.stops for text in running)
        results = self.core.generate(
            [text.request for text in running],
            (lambda index, ids: running[index].append(ids)[1]) if watched else None,
        )
        finished = [text.finish(result) for text, result in zip(running, results, strict=True)]
        return finished if is_batch(prompt) else finished[0]

    def stream(self, prompt: Prompt, *, fills: bool = False, **options: Any) -> collections.abc.Generator[Chunk]:
        """Write the continuation of one prompt, piece by piece; closing the stream, or leaving its loop, cancels it.

        Args:
            prompt: A text, token ids or chat messages.
            fills: Whether to yield also what every round fills into a canvas, in chunks without text.
            **options: The fields of `GenerateOptions`.

        Yields:
            Chunks; the last one holds the result.
        """
        if is_batch(prompt):
            raise UsageError("stream takes one prompt.", "Use generate for a batch, or one stream for each prompt.")
        text = self._start(prompt, GenerateOptions.from_names(options).of_text(0, self._loaded.plan))
        return stream(text, lambda *hooks: self.core.generate([text.request], *hooks)[0], fills=fills)

    def session(self) -> Session:
        """A new session, which keeps its text in the cache between calls.

        Raises:
            BusyError: Every row of the build is taken.
        """
        return Session(self.core.session(), self._loaded)

    def close(self) -> None:
        """Release the engine's memory; nothing can be generated afterwards."""
        self.core.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, prompt: Prompt, options: GenerateOptions) -> RunningText:
        ids = prompt_ids(prompt, self.codec, options.chat)
        check_masks(prompt, self._loaded.masks_in(ids), self._loaded, infill=options.infill)
        return RunningText(self._loaded, ids, options)
