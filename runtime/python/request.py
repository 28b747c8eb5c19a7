"""One text on its way: the options it was asked for with, its stop strings, its result."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import inf
from typing import Any

from ptgc.errors import UsageError
from ptgc.runtime import _core
from ptgc.runtime.loaded import Loaded
from ptgc.runtime.results import GenerationResult, RoundTrace, Statistics
from ptgc.runtime.text import GrowingText, StopMatcher, TextCodec
from ptgc.spec.generation import GenerationDefaults
from ptgc.spec.strategy import Strategy

Prompt = str | Sequence[int] | Sequence[Mapping[str, Any]]

DEFAULT_NEW_TOKENS = 256


@dataclass(frozen=True)
class GenerateOptions:
    """How one text is written."""

    max_new_tokens: int | None = None
    """Tokens to write at most; None writes up to 256, or as many as fit."""
    stop: str | Sequence[str] = ()
    """Strings that end the text; they are not part of it."""
    ignore_eos: bool = False
    """Write on behind the token that ends a text."""
    plain: bool = False
    """Decode without drafts."""
    deadline: float | None = None
    """Seconds after which the text ends as it is."""
    trace: bool = False
    """Keep what every round did."""
    temperature: float = 0.0
    """0 takes the likeliest token, 1 draws from the model's distribution, more flattens it."""
    top_k: int = 0
    """Draw from the so many likeliest tokens only; 0 for all."""
    top_p: float = 1.0
    """Draw from the fewest likeliest tokens whose probabilities reach this sum."""
    min_p: float = 0.0
    """Draw from tokens that are at least so probable, as a share of the likeliest one's probability."""
    repetition_penalty: float | None = None
    """Divides (a positive) or multiplies (a negative) logit of every token of prompt and text; None takes the
    bundle's, which is 1 unless the checkpoint's own settings say otherwise."""
    presence_penalty: float = 0.0
    """Subtracted from the logit of every token generated so far."""
    frequency_penalty: float = 0.0
    """The same once for each of its occurrences."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Added to the logits of these tokens; minus infinity forbids one, and 0 allows one that the bundle suppresses."""
    ignore_defaults: bool = False
    """Choose by these options alone, whatever the bundle's generation defaults are."""
    seed: int | None = None
    """Equal seeds give equal texts; None takes a new one, which the result tells."""

    @staticmethod
    def from_names(options: Mapping[str, Any]) -> GenerateOptions:
        """Options by name.

        Raises:
            UsageError: An unknown name, or values out of range; all of them are named.
        """
        known = {one.name for one in fields(GenerateOptions)}
        unknown = sorted(set(options) - known)
        if unknown:
            raise UsageError(f"Unknown option: {', '.join(unknown)}.", f"There are: {', '.join(sorted(known))}.")
        chosen = GenerateOptions(**options)
        problems = []
        if chosen.max_new_tokens is not None and chosen.max_new_tokens < 1:
            problems.append(f"max_new_tokens is {chosen.max_new_tokens}; it must be 1 or more.")
        if chosen.deadline is not None and chosen.deadline <= 0:
            problems.append(f"deadline is {chosen.deadline} s; it must be more than 0.")
        if any(not stop for stop in chosen.stops):
            problems.append("a stop string is empty.")
        if problems:
            raise UsageError("\n".join(problems))
        return chosen

    def of_text(self, number: int) -> GenerateOptions:
        """The same for one text of a list: with a seed of its own."""
        if self.temperature == 0:
            return self
        seed = secrets.randbits(63) if self.seed is None else self.seed + number
        return replace(self, seed=seed)

    def sampling(self, bundle: GenerationDefaults) -> _core.SamplingOptions:
        """The core's form of how tokens are chosen.

        Args:
            bundle: What holds where these options do not say.

        Raises:
            UsageError: A seed out of range.
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


def is_batch(prompt: Any) -> bool:
    """Whether this is a list of prompts: texts, lists of ids, or lists of messages."""
    if isinstance(prompt, str) or not isinstance(prompt, Sequence) or not prompt:
        return False
    first = prompt[0]
    return isinstance(first, str) or (isinstance(first, Sequence) and not isinstance(first, bytes))


def prompt_ids(prompt: Prompt, codec: TextCodec | None) -> list[int]:
    """Token ids of any kind of prompt.

    Raises:
        UsageError: Text for a bundle without a tokenizer, malformed messages, or ids that are no integers.
    """
    if isinstance(prompt, str) or (prompt and isinstance(prompt[0], Mapping)):
        if codec is None:
            raise UsageError("This bundle has no tokenizer; it takes token ids only.", "Give the prompt as token ids.")
        if isinstance(prompt, str):
            return codec.encode(prompt)
        return codec.encode_messages(prompt)  # type: ignore[arg-type]  # the first one is a mapping
    if not all(isinstance(token, int) and not isinstance(token, bool) for token in prompt):
        raise UsageError("A prompt of token ids must hold integers only.")
    return list(prompt)  # type: ignore[arg-type]  # checked above


def make_request(loaded: Loaded, ids: Sequence[int], options: GenerateOptions, held: int = 0) -> _core.Request:
    """The core's form of a request; `held` tokens are in the session already."""
    shapes = loaded.build.manifest.shapes
    # Behind an encoder the prompt is no part of the text, which begins with a token of its own.
    room = shapes.max_length - (max(held, 1) if shapes.source_lengths else len(ids) + held)
    wanted = options.max_new_tokens
    manifest = loaded.bundle.manifest
    eos = () if options.ignore_eos else manifest.model.eos_token_ids
    return _core.Request(
        prompt_ids=list(ids),
        max_new_tokens=max(1, min(DEFAULT_NEW_TOKENS, room)) if wanted is None else wanted,
        eos_token_ids=list(eos),
        plain=options.plain,
        deadline_seconds=0.0 if options.deadline is None else options.deadline,
        trace=options.trace,
        sampling=options.sampling(manifest.generation),
    )


class RunningText:
    """One text while it is written."""

    def __init__(self, loaded: Loaded, ids: Sequence[int], options: GenerateOptions, held: int = 0) -> None:
        if options.stops and loaded.codec is None:
            raise UsageError("This bundle has no tokenizer; it cannot look for stop strings.")
        self._loaded = loaded
        self._options = options
        self._matcher = StopMatcher(options.stops)
        self._growing: GrowingText | None = loaded.codec.growing() if loaded.codec else None
        self._stopped_at: int | None = None
        self.shown = ""
        self.request = make_request(loaded, ids, options, held)

    @property
    def stops(self) -> bool:
        """Whether there are stop strings."""
        return bool(self._options.stops)

    def append(self, ids: Sequence[int]) -> tuple[str, bool]:
        """Add the tokens of a round; gives what can be shown now, and whether to go on."""
        if self._growing is None:
            return "", True
        searched = len(self._growing.text)
        self._growing.append(ids)
        text = self._growing.text
        self._stopped_at = self._matcher.find(text, searched)
        certain = self._matcher.certain(text) if self._stopped_at is None else self._stopped_at
        added = text[len(self.shown) : certain]
        self.shown += added
        return added, self._stopped_at is None

    def finish(self, result: _core.Result) -> GenerationResult:
        """The result, cut at a stop string."""
        ids = list(result.token_ids)
        text = self._loaded.codec.decode(ids) if self._loaded.codec else ""
        if self._stopped_at is not None and self._growing is not None:
            text = self._growing.text[: self._stopped_at]
            ids = self._ids_up_to(self._stopped_at, ids)
        elif self.shown and not text.startswith(self.shown):
            text = self.shown  # what has been shown stays
        manifest = self._loaded.bundle.manifest
        strategy = Strategy.AUTOREGRESSIVE if self._options.plain else manifest.plan.strategy
        return GenerationResult(
            text=text,
            token_ids=ids,
            finish_reason=result.finish_reason,
            strategy=strategy.value,
            lossless=strategy.lossless,
            build=self._loaded.build.manifest.id,
            seed=self.request.sampling.seed if self._options.temperature > 0 else None,
            statistics=Statistics(**{f.name: getattr(result.statistics, f.name) for f in fields(Statistics)}),
            trace=[RoundTrace(**{f.name: getattr(r, f.name) for f in fields(RoundTrace)}) for r in result.trace],
        )

    def _ids_up_to(self, characters: int, ids: list[int]) -> list[int]:
        """The fewest tokens whose text covers the characters before the stop string."""
        assert self._loaded.codec is not None
        growing = self._loaded.codec.growing()
        for count, token in enumerate(ids):
            if len(growing.text) >= characters:
                return ids[:count]
            growing.append([token])
        return ids
