"""OpenVINO GenAI as an engine of the benchmark."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from ptgc.bench.engines.base import Written
from ptgc.bench.engines.rounds import Rounds


class OpenVinoEngine:
    """A folder written by the converter, loaded for one mode.

    Args:
        folder: The folder with openvino_model.xml.
        drafter: The same of a drafter, for mode `draft`.
        mode: `plain`, `prompt-lookup` or `draft`; one pipeline has one of them.
        properties: Properties of the device.
        drafting: Settings of `GenerationConfig` for the mode.
    """

    writes_on = True

    def __init__(
        self, folder: str, drafter: str | None, mode: str, properties: Mapping[str, Any], drafting: Mapping[str, int]
    ) -> None:
        without_telemetry()
        self._openvino: Any = import_module("openvino")
        self._library: Any = import_module("openvino_genai")
        self._drafting = drafting
        scheduler = self._library.SchedulerConfig()
        scheduler.enable_prefix_caching = False  # prompts are repeated
        scheduler.max_num_batched_tokens = (
            sys.maxsize
        )  # a prompt is computed at once, as without a scheduler's settings
        modes: dict[str, Any] = {}
        if mode == "prompt-lookup":
            modes["prompt_lookup"] = True
        if drafter is not None:
            modes["draft_model"] = self._library.draft_model(drafter, "CPU", **properties)
        self._pipeline = self._library.LLMPipeline(folder, "CPU", scheduler_config=scheduler, **modes, **properties)
        self._streamer = streamer_class(self._library)

    def generate(self, ids: Sequence[int], max_new_tokens: int, mode: str) -> Written:  # noqa: ARG002
        """Write one text in the engine's mode."""
        config = self._library.GenerationConfig()
        config.max_new_tokens = max_new_tokens
        config.ignore_eos = True
        config.do_sample = False
        for name, value in self._drafting.items():
            setattr(config, name, value)
        prompt = self._openvino.Tensor(np.array([ids], dtype=np.int64))
        rounds = Rounds()
        found = self._pipeline.generate(prompt, config, self._streamer(rounds))
        return rounds.written([int(token) for token in found.tokens[0]])


def streamer_class(library: Any) -> Any:
    """A streamer that records rounds; its base class is in a library that is loaded late."""

    def begin(self: Any, rounds: Rounds) -> None:
        library.StreamerBase.__init__(self)
        self.rounds = rounds

    def write(self: Any, tokens: int | Sequence[int]) -> Any:
        self.rounds.add(1 if isinstance(tokens, int) else len(tokens))
        return library.StreamingStatus.RUNNING

    def end(self: Any) -> None:
        """End of the text."""

    return type("RoundStreamer", (library.StreamerBase,), {"__init__": begin, "write": write, "end": end})


def without_telemetry() -> None:
    """Let imports of OpenVINO's telemetry fail, which OpenVINO and NNCF take as consent refused."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # how Python marks a module as missing
