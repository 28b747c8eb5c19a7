"""One engine in its own process: reads JSON commands line by line from stdin, answers each with a JSON line.

    python -m ptgc.bench.worker ptgc '{"bundle": DIR, "build": ID, "num_threads": 2}'

The first answer says that the engine is loaded. Commands are {"op": "generate", "ids": [...], "max_new_tokens": 96,
"mode": "plain"} and {"op": "memory"}. A text never ends early, because end tokens are ignored. Times are measured here,
in the same way for all engines: prefill ends when the first new token is known, decoding when the last one is.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from ptgc.bench.engines.base import Engine

Answer = dict[str, Any]


def _ptgc(**arguments: Any) -> Engine:
    from ptgc.bench.engines.ptgc_engine import PtgcEngine

    return PtgcEngine(**arguments)


def _genai(**arguments: Any) -> Engine:
    from ptgc.bench.engines.genai_engine import GenaiEngine

    return GenaiEngine(**arguments)


def _transformers(**arguments: Any) -> Engine:
    from ptgc.bench.engines.transformers_engine import TransformersEngine

    return TransformersEngine(**arguments)


def _openvino(**arguments: Any) -> Engine:
    from ptgc.bench.engines.openvino_engine import OpenVinoEngine

    return OpenVinoEngine(**arguments)


def _llama_cpp(**arguments: Any) -> Engine:
    from ptgc.bench.engines.llama_cpp_engine import LlamaCppEngine

    return LlamaCppEngine(**arguments)


def _ctranslate2(**arguments: Any) -> Engine:
    from ptgc.bench.engines.ctranslate2_engine import Ctranslate2Engine

    return Ctranslate2Engine(**arguments)


ENGINES: dict[str, Callable[..., Engine]] = {
    "ptgc": _ptgc,
    "onnxruntime-genai": _genai,
    "transformers": _transformers,
    "openvino-genai": _openvino,
    "llama.cpp": _llama_cpp,
    "ctranslate2": _ctranslate2,
}


def memory() -> Answer:
    """Resident bytes of this process: in total, anonymous, and mapped from files."""
    names = {"VmRSS": "resident", "RssAnon": "anonymous", "RssFile": "mapped", "VmHWM": "peak"}
    found = {}
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name in names:
            found[f"{names[name]}_bytes"] = int(value.split()[0]) * 1024
    return found


def serve(engine: Engine, commands: Iterable[str], answers: TextIO) -> None:
    """Answer commands until there are no more; each answer has the processor time used while waiting for it."""
    since, burnt = time.perf_counter(), time.process_time()
    for line in commands:
        idle = {
            "idle_seconds": time.perf_counter() - since,
            "idle_cpu_seconds": time.process_time() - burnt,
        }
        try:
            answer = {**_answer(engine, json.loads(line)), **idle}
        except Exception as error:  # noqa: BLE001 - the other side must be told of any error
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        say(answers, answer)
        since, burnt = time.perf_counter(), time.process_time()


def _answer(engine: Engine, command: Answer) -> Answer:
    if command["op"] == "memory":
        return memory()
    if command["op"] != "generate":
        raise ValueError(f"unknown op {command['op']!r}")
    wanted = int(command["max_new_tokens"])
    written = engine.generate(command["ids"], wanted, command["mode"])
    if engine.writes_on and len(written.token_ids) != wanted:
        raise ValueError(f"{len(written.token_ids)} tokens were written, not {wanted}")
    return asdict(written)


def say(answers: TextIO, answer: Answer) -> None:
    """Write one line."""
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Load the engine named on the command line and serve it; return the exit status."""
    name, settings = sys.argv[1:] if arguments is None else arguments
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # output of libraries must not mix with the answers
        before = memory()
        start = time.perf_counter()
        try:
            engine = ENGINES[name](**json.loads(settings))
        except Exception as error:  # noqa: BLE001 - the other side reports it with the log
            traceback.print_exc()
            say(answers, {"error": f"{type(error).__name__}: {error}"})
            return 1
        loaded = time.perf_counter() - start
        say(answers, {"ready": {"load_seconds": loaded, "before_load": before, "after_load": memory()}})
        serve(engine, sys.stdin, answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
