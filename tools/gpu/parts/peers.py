"""transformers beside ptgc: the same model, prompt and number of tokens, in turns, everything warmed up."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from cuda_driver import require_device

from parts.base import Figures, Settings
from parts.large_model import build_name, checkpoint_precision, large_bundle, make_model
from ptgc.bench.figures import Spread, rotated
from ptgc.compiler.checking.engine import common_prefix
from ptgc.runtime import Generator

_NEW_TOKENS, _SMALL_TOKENS = 256, 16
_REPEATS, _SMALL_REPEATS = 5, 2
_PROMPT_LENGTH = 128
_PTGC = "ptgc, plain"


@dataclass(frozen=True)
class Text:
    """One text of one contestant."""

    token_ids: list[int]
    """The new tokens."""
    prefill_seconds: float
    """Time until the first of them."""
    decode_seconds: float
    """Time from then to the last one."""

    @property
    def tokens_per_second(self) -> float:
        """Speed of decoding."""
        return (len(self.token_ids) - 1) / self.decode_seconds


Write = Callable[[Sequence[int], int], Text]


def measure(settings: Settings, figures: Figures, _subject: str) -> None:
    """Warm up all contestants, then take turns."""
    if settings.device == "cuda":
        require_device()
    model = make_model(settings)
    tokens = _SMALL_TOKENS if settings.small else _NEW_TOKENS
    prompt = [(37 * at + 11) % model.config.vocab_size for at in range(_PROMPT_LENGTH)]
    compiled = settings.device == "cuda"
    figures.put(precision=checkpoint_precision(settings), prompt_tokens=len(prompt), new_tokens=tokens)
    contestants: dict[str, Write] = {}
    with ExitStack() as stack:
        with figures.attempt(_PTGC):
            contestants[_PTGC] = _ptgc(settings, stack)
        contestants["transformers, dynamic cache"] = _transformers(model, {})
        # On the CPU the compiler takes minutes, and the rehearsal does not need it.
        name = f"transformers, static cache{', torch.compile' if compiled else ''}"
        static = {"cache_implementation": "static", "disable_compile": not compiled}
        contestants[name] = _transformers(model, static)
        ready = _warm_up(contestants, prompt, tokens, figures)
        # transformers decides by itself whether to compile; it stores the compiled call in this attribute.
        figures.put(compiled=hasattr(model, "_compiled_call"))
        _take_turns(ready, prompt, tokens, _SMALL_REPEATS if settings.small else _REPEATS, figures)


def _warm_up(
    contestants: Mapping[str, Write], prompt: Sequence[int], tokens: int, figures: Figures
) -> dict[str, Write]:
    """Write two texts with each contestant, which allocates, compiles and captures shapes; return those that work."""
    ready, seconds = {}, {}
    for name, write in contestants.items():
        with figures.attempt(name):
            start = time.perf_counter()
            for _ in range(2):
                write(prompt, tokens)
            seconds[name] = round(time.perf_counter() - start, 2)
            ready[name] = write
        figures.put(warm_up_seconds=seconds)
    return ready


def _take_turns(
    contestants: Mapping[str, Write], prompt: Sequence[int], tokens: int, repeats: int, figures: Figures
) -> None:
    texts: dict[str, list[Text]] = {name: [] for name in contestants}
    for turn in range(repeats):
        for name in rotated(list(contestants), turn):
            with figures.attempt(name):
                texts[name].append(contestants[name](prompt, tokens))
    ours = texts.get(_PTGC, [])
    for name, found in texts.items():
        if not found:
            continue
        speed = Spread.of(text.tokens_per_second for text in found)
        row = {
            "name": name,
            "tokens_per_second": speed.to_json(),
            "prefill_seconds": Spread.of(text.prefill_seconds for text in found).to_json(),
        }
        if ours and name != _PTGC:
            row["speedup_of_ptgc"] = Spread.of(text.tokens_per_second for text in ours).median / speed.median
            row["same_tokens"] = common_prefix(found[0].token_ids, ours[0].token_ids)
        figures.add("rows", row)


def _ptgc(settings: Settings, stack: ExitStack) -> Write:
    """Plain decoding by the build at the model's own precision."""
    build = build_name(checkpoint_precision(settings))
    generator = stack.enter_context(Generator(large_bundle(settings), build=build, device=settings.device))

    def write(prompt: Sequence[int], tokens: int) -> Text:
        result = generator.generate(list(prompt), max_new_tokens=tokens, plain=True, ignore_eos=True)
        return Text(result.token_ids, result.statistics.prefill_seconds, result.statistics.decode_seconds)

    return write


def _transformers(model: Any, settings: Mapping[str, Any]) -> Write:
    import torch
    from transformers import GenerationConfig

    class Watch:
        """A stopping criterion that never stops and records the time of the first token."""

        first = 0.0

        def __call__(self, input_ids: Any, _scores: Any, **_: Any) -> Any:
            if not self.first:
                _wait(input_ids)
                self.first = time.perf_counter()
            return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    def write(prompt: Sequence[int], tokens: int) -> Text:
        ids = torch.tensor([list(prompt)], device=model.device)
        watch = Watch()
        make: Any = GenerationConfig  # untyped
        config = make(max_new_tokens=tokens, do_sample=False, pad_token_id=0, **settings)
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # compilers warn about what they cannot fuse
            _wait(ids)
            start = time.perf_counter()
            found = model.generate(
                ids, attention_mask=torch.ones_like(ids), generation_config=config, stopping_criteria=[watch]
            )
            _wait(found)
            end = time.perf_counter()
        return Text(found[0, len(prompt) :].tolist(), watch.first - start, end - watch.first)

    return write


def _wait(tensor: Any) -> None:
    """Wait until the device has computed everything."""
    import torch

    if tensor.is_cuda:
        torch.cuda.synchronize()
