"""One text being written: its options, its stop strings, its result."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import inf
from typing import Any, TypeAlias

from ptgc.errors import UsageError
from ptgc.runtime import _core
from ptgc.runtime.chat_template import ChatOptions
from ptgc.runtime.loaded import Loaded
from ptgc.runtime.option_values import is_integer, option_types, read_options
from ptgc.runtime.results import DraftCount, GenerationResult, RoundTrace, Statistics
from ptgc.runtime.stop_matcher import StoppedText, ids_before
from ptgc.runtime.text import TextCodec
from ptgc.spec.generation import GenerationDefaults
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan

Prompt = str | Sequence[int] | Sequence[Mapping[str, Any]]
Seed: TypeAlias = int
"""An unsigned integer of 64 bits."""

DEFAULT_NEW_TOKENS = 256


@dataclass(frozen=True)
class GenerateOptions:
    """How one text is written."""

    max_new_tokens: int | None = None
    """Most tokens to write; None writes up to 256, or as many as fit."""
    stop: str | Sequence[str] = ()
    """Strings that end the text and are not part of it. A special token in such a string is matched by its spelling."""
    stop_token_ids: Sequence[int] = ()
    """Tokens that end the text, in addition to the model's own; such a token is the last of the result."""
    ignore_eos: bool = False
    """Continue after the token that ends a text."""
    plain: bool = False
    """Decode without drafts."""
    deadline: float | None = None
    """Seconds after which generation stops."""
    trace: bool = False
    """Record what every round did."""
    temperature: float = 0.0
    """0 takes the likeliest token, 1 samples from the model's distribution, higher values flatten it."""
    top_k: int = 0
    """Sample only from this many likeliest tokens; 0 for all."""
    top_p: float = 1.0
    """Sample only from the fewest likeliest tokens whose probabilities reach this sum."""
    min_p: float = 0.0
    """Sample only from tokens with at least this share of the likeliest token's probability."""
    repetition_penalty: float | None = None
    """Divides positive and multiplies negative logits of every token of prompt and text; None takes the bundle's value,
    which is 1 unless the checkpoint's settings say otherwise."""
    presence_penalty: float = 0.0
    """Subtracted from the logit of every token generated so far."""
    frequency_penalty: float = 0.0
    """The same, once for each occurrence."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Added to the logits of these tokens. Minus infinity forbids a token; 0 allows one that the bundle suppresses."""
    ignore_defaults: bool = False
    """Ignore the bundle's generation defaults."""
    seed: Seed | None = None
    """Equal seeds give equal texts; None takes a new seed, which is in the result."""
    num_steps: int | None = None
    """Most rounds that fill a canvas, or as the bundle was exported each of its blocks; None takes the bundle's."""
    threshold: float | None = None
    """Which positions of a canvas are filled sooner, by the policy of the bundle; None takes the bundle's."""

    infill: bool = False
    """Fill in the mask tokens that a text or chat messages spell. In token ids they are always filled in."""

    chat: ChatOptions = field(default_factory=ChatOptions)
    """How chat messages become a text; its fields are given as options of their own."""

    @staticmethod
    def from_names(options: Mapping[str, Any]) -> GenerateOptions:
        """Options by name, including those of `ChatOptions`.

        Raises:
            UsageError: An unknown name, or values of the wrong type or out of range; all of them are named.
        """
        names = option_types(ChatOptions)
        chat = chat_options({name: value for name, value in options.items() if name in names})
        others = {name: value for name, value in options.items() if name not in names}
        return replace(read_options(GenerateOptions, others, GenerateOptions.problems, hidden=("chat",)), chat=chat)

    def problems(self) -> list[str]:
        """Values that are out of range, one sentence each."""
        found = []
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            found.append(f"max_new_tokens is {self.max_new_tokens}; it must be 1 or more.")
        if self.deadline is not None and self.deadline <= 0:
            found.append(f"deadline is {self.deadline} s; it must be more than 0.")
        if self.num_steps is not None and self.num_steps < 1:
            found.append(f"num_steps is {self.num_steps}; it must be 1 or more.")
        if any(not stop for stop in self.stops):
            found.append("a stop string is empty.")
        return found

    def draws(self, plan: DecodePlan) -> bool:
        """Whether a text depends on the seed."""
        return self.temperature > 0 or plan.always_draws

    def of_text(self, number: int, plan: DecodePlan) -> GenerateOptions:
        """The options for one text of a list, with its own seed."""
        if not self.draws(plan):
            return self
        seed = secrets.randbits(63) if self.seed is None else self.seed + number
        return replace(self, seed=seed)

    def sampling(self, bundle: GenerationDefaults) -> _core.SamplingOptions:
        """The sampling options for the core.

        Args:
            bundle: The bundle's defaults, for what these options do not say.

        Raises:
            UsageError: The seed is out of range.
        """
        seed = self.seed or 0
        if not 0 <= seed < 1 << 64:
            raise UsageError(f"seed is {self.seed}; it must be from 0 to 2^64 - 1.")
        defaults = GenerationDefaults() if self.ignore_defaults else bundle
        penalty = self.repetition_penalty
        return _core.SamplingOptions(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            min_p=self.min_p,
            repetition_penalty=defaults.repetition_penalty if penalty is None else penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=dict.fromkeys(defaults.suppressed_token_ids, -inf) | dict(self.logit_bias),
            seed=seed,
        )

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)


def chat_options(options: Mapping[str, Any]) -> ChatOptions:
    """Options of chat messages, by name.

    Raises:
        UsageError: An unknown name, values of the wrong type, or options that contradict each other.
    """
    return read_options(ChatOptions, options, ChatOptions.problems)


def is_batch(prompt: Any) -> bool:
    """Whether this is a list of prompts: texts, lists of ids, or lists of messages."""
    if getattr(prompt, "ndim", 0) == 2:
        return True  # a numpy array of ids with a row for each text
    if isinstance(prompt, str | bytes) or not isinstance(prompt, Sequence) or not prompt:
        return False
    first = prompt[0]
    return (isinstance(first, str | Sequence) and not isinstance(first, bytes)) or getattr(first, "ndim", 0) == 1


def prompt_ids(prompt: Prompt, codec: TextCodec | None, chat: ChatOptions | None = None) -> list[int]:
    """Token ids of any kind of prompt.

    Raises:
        UsageError: Text for a bundle without a tokenizer, malformed messages, something that is not a prompt, or ids
            that are not integers.
    """
    if is_messages(prompt):
        return _need_codec(codec).encode_messages(prompt, chat)  # type: ignore[arg-type]  # the first one is a mapping
    if chat not in (None, ChatOptions()):
        raise UsageError(
            f"{', '.join(_given(chat))}: such options are for chat messages, and the prompt is none.",
            'Give the prompt as [{"role": "user", "content": "..."}], or leave them out.',
        )
    if isinstance(prompt, str):
        return _need_codec(codec).encode(prompt)
    return _checked_ids(prompt)


def is_messages(prompt: Any) -> bool:
    """Whether this is a list of chat messages."""
    return isinstance(prompt, Sequence) and len(prompt) > 0 and isinstance(prompt[0], Mapping)


def _given(chat: ChatOptions | None) -> list[str]:
    return [one.name for one in fields(ChatOptions) if getattr(chat, one.name) != getattr(ChatOptions(), one.name)]


def _need_codec(codec: TextCodec | None) -> TextCodec:
    if codec is None:
        raise UsageError("This bundle has no tokenizer; it takes token ids only.", "Give the prompt as token ids.")
    return codec


def _checked_ids(prompt: Any) -> list[int]:
    is_list = isinstance(prompt, Sequence) and not isinstance(prompt, bytes | bytearray)
    if not is_list and getattr(prompt, "ndim", 0) != 1:
        raise UsageError(
            f"A prompt is a text, a list of token ids or a list of chat messages; given: {type(prompt).__name__}."
        )
    if not all(is_integer(token) for token in prompt):
        raise UsageError("A prompt of token ids must hold integers only.")
    ids = [int(token) for token in prompt]
    beyond = next((token for token in ids if not -(1 << 63) <= token < 1 << 63), None)
    if beyond is not None:
        raise UsageError("The prompt has a token id of more than 64 bits, which is in no vocabulary.")
    return ids


def default_new_tokens(room: int) -> int:
    """How many tokens are written where the caller names no number, if there is room for `room`."""
    return max(1, min(DEFAULT_NEW_TOKENS, room))


def make_request(loaded: Loaded, ids: Sequence[int], options: GenerateOptions, held: int = 0) -> _core.Request:
    """The core's request; `held` tokens are already in the session."""
    shapes = loaded.build.manifest.shapes
    manifest = loaded.bundle.manifest
    # A text with a source starts with one extra token.
    room = shapes.max_length - (max(held, 1) if loaded.has_source else len(ids) + held)
    wanted = options.max_new_tokens
    eos = () if options.ignore_eos else manifest.model.eos_token_ids
    _check_stop_tokens(options, manifest.model.vocab_size)
    return _core.Request(
        prompt_ids=list(ids),
        max_new_tokens=default_new_tokens(room) if wanted is None else wanted,
        eos_token_ids=[*eos, *options.stop_token_ids],
        plain=options.plain,
        deadline_seconds=0.0 if options.deadline is None else options.deadline,
        trace=options.trace,
        sampling=options.sampling(manifest.generation),
        num_steps=options.num_steps or 0,
        threshold=options.threshold,
    )


def _fields(kind: type, core: object) -> dict[str, Any]:
    """The fields of a dataclass, from the core's object with the same ones."""
    return {one.name: getattr(core, one.name) for one in fields(kind)}


def _check_stop_tokens(options: GenerateOptions, vocab_size: int) -> None:
    wrong = [token for token in options.stop_token_ids if token >= vocab_size]
    if wrong:
        raise UsageError(
            f"stop_token_ids names {', '.join(map(str, wrong))}; the vocabulary has {vocab_size} entries.",
            "Use the tokenizer of this bundle.",
        )


class RunningText:
    """One text while it is written.

    Args:
        loaded: The generator's build and tokenizer.
        ids: The prompt.
        options: How the text is written.
        held: Tokens that a session holds already.
        context: The tokens that the text continues; None for the prompt.
    """

    def __init__(
        self,
        loaded: Loaded,
        ids: Sequence[int],
        options: GenerateOptions,
        held: int = 0,
        context: Sequence[int] | None = None,
    ) -> None:
        if options.stops and loaded.codec is None:
            raise UsageError("This bundle has no tokenizer; it cannot look for stop strings.")
        self._loaded = loaded
        self._options = options
        self._context = () if loaded.has_source else ids if context is None else context
        self._ids: list[int] = []
        self._text = self._new_text()
        self.shown = ""
        self.request = make_request(loaded, ids, options, held)

    @property
    def stops(self) -> bool:
        """Whether there are stop strings."""
        return bool(self._options.stops)

    def append(self, ids: Sequence[int]) -> tuple[str, bool]:
        """Add the tokens of a round; returns what can be shown now, and whether to continue."""
        self._ids += ids
        if self._text is None:
            return "", True
        for token_id in ids:
            self._text.append(token_id)
        added = self._text.shown_after(len(self.shown))
        self.shown += added
        return added, self._text.stopped is None

    def finish(self, result: _core.Result) -> GenerationResult:
        """The result, cut at a stop string."""
        ids = list(result.token_ids)
        if self._ids != ids[: len(self._ids)]:
            self._ids, self._text = [], self._new_text()
        self.append(ids[len(self._ids) :])
        text = self._text.finish() if self._text else ""
        reason = self._finish_reason(result.finish_reason, ids)
        if self._text and self._text.stopped is not None:
            assert self._loaded.codec is not None
            ids = ids_before(self._loaded.codec.detokenizer, ids, text, self._context)
            reason = "stop"
        plan = self._loaded.plan
        plain = self._options.plain and plan.loop is Loop.SPECULATIVE
        return GenerationResult(
            text=text,
            token_ids=ids,
            finish_reason=reason,
            strategy="autoregressive" if plain else plan.strategy,
            lossless=plain or plan.lossless,
            build=self._loaded.build.manifest.id,
            seed=self.request.sampling.seed if self._options.draws(plan) else None,
            statistics=replace(
                Statistics(**_fields(Statistics, result.statistics)),
                draft_counts=[DraftCount(**_fields(DraftCount, one)) for one in result.statistics.draft_counts],
            ),
            trace=[RoundTrace(**_fields(RoundTrace, one)) for one in result.trace],
        )

    def _new_text(self) -> StoppedText | None:
        codec = self._loaded.codec
        return StoppedText(codec.detokenizer, self._options.stops, self._context) if codec else None

    def _finish_reason(self, reason: str, ids: Sequence[int]) -> str:
        """The core does not distinguish the model's end tokens from the caller's."""
        own = () if self._options.ignore_eos else self._loaded.bundle.manifest.model.eos_token_ids
        asked = reason == "eos" and bool(ids) and ids[-1] in self._options.stop_token_ids
        return "stop" if asked and ids[-1] not in own else reason
