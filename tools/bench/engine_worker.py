"""One engine in a process of its own: a JSON command a line on stdin, a JSON line on stdout for each.

    python engine_worker.py ptgc BUNDLE BUILD_ID --threads 2
    python engine_worker.py genai FOLDER --threads 2

The first line says that the engine is loaded. Commands are {"op": "generate", "ids": [...], "max_new_tokens": 96,
"mode": "plain"} and {"op": "memory"}. A text never ends early: the token that ends texts is ignored. Times are taken
here, in the same way for both engines: prefill ends when the first new token is known, decoding when the last one is.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any, TextIO

GENAI_NGRAM = {"ngram_size": 3, "max_draft_tokens": 4, "ngram_chained_lookup": True}
"""Settings of onnxruntime-genai's own n-gram speculation."""

Answer = dict[str, Any]


class Mode(str, Enum):
    """How an engine decodes."""

    PLAIN = "plain"
    """One token a round."""
    NGRAM = "ngram"
    """Drafts are looked up in the text so far."""


class PtgcEngine:
    """A build of a bundle."""

    def __init__(self, bundle: Path, build: str, num_threads: int) -> None:
        from ptgc.runtime import Generator

        self._generator = Generator(bundle, build=build, num_threads=num_threads)

    def generate(self, ids: Sequence[int], max_new_tokens: int, mode: Mode) -> Answer:
        """Write exactly `max_new_tokens` tokens."""
        from ptgc.runtime._core import Request

        request = Request(list(ids), max_new_tokens, plain=mode is Mode.PLAIN)
        written: list[float] = []

        def on_tokens(_index: int, _ids: Sequence[int]) -> bool:
            if not written:
                written.append(time.perf_counter())
            return True

        start = time.perf_counter()
        result = self._generator.core.generate([request], on_tokens)[0]
        end = time.perf_counter()
        did = result.statistics
        return {
            "token_ids": list(result.token_ids),
            "prefill_seconds": written[0] - start,
            "decode_seconds": end - written[0],
            "rounds": did.rounds,
            "drafted_tokens": did.drafted_tokens,
            "accepted_tokens": did.accepted_tokens,
            "fallback_reason": did.fallback_reason,
            "reported_decode_seconds": did.decode_seconds,
        }


class GenaiEngine:
    """A folder written by onnxruntime-genai's model builder."""

    def __init__(self, folder: Path, num_threads: int) -> None:
        self._library: Any = import_module("onnxruntime_genai")
        config = self._library.Config(str(folder))
        config.clear_providers()
        options = {"session_options": {"intra_op_num_threads": num_threads}}
        config.overlay(json.dumps({"model": {"eos_token_id": stand_in_eos(folder), "decoder": options}}))
        self._model = self._library.Model(config)

    def generate(self, ids: Sequence[int], max_new_tokens: int, mode: Mode) -> Answer:
        """Write exactly `max_new_tokens` tokens."""
        start = time.perf_counter()
        parameters = self._library.GeneratorParams(self._model)
        parameters.set_search_options(max_length=len(ids) + max_new_tokens, do_sample=False)
        if mode is Mode.NGRAM:
            parameters.set_speculative_options(**GENAI_NGRAM)
        generator = self._library.Generator(self._model, parameters)
        generator.append_tokens(list(ids))
        generator.generate_next_token()
        first = time.perf_counter()
        while not generator.is_done():
            generator.generate_next_token()
        end = time.perf_counter()
        did = generator.get_speculative_stats()
        # A fallback step writes one token without a draft; the first of them is the end of prefill.
        speculative = did["rounds"] + did["standard_fallback_steps"] - 1
        return {
            "token_ids": [int(token) for token in generator.get_sequence(0)[len(ids) :]],
            "prefill_seconds": first - start,
            "decode_seconds": end - first,
            "rounds": speculative if mode is Mode.NGRAM else max_new_tokens - 1,
            "drafted_tokens": did["draft_tokens_proposed"],
            "accepted_tokens": did["draft_tokens_accepted"],
            "extra_forward_passes": did["target_reanchor_forward_passes"],
        }


Engine = PtgcEngine | GenaiEngine


def stand_in_eos(folder: Path) -> int:
    """A token that no text has, to be named as the end of texts: the last special one without a role."""
    model = json.loads((folder / "genai_config.json").read_text(encoding="utf-8"))["model"]
    roles: set[int] = set()
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        value = model.get(name)
        roles.update(value if isinstance(value, list) else [value])
    tokenizer = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    special = [token["id"] for token in tokenizer.get("added_tokens", []) if token["special"]]
    return int(max((token for token in special if token not in roles), default=model["vocab_size"] - 1))


def memory() -> Answer:
    """Resident bytes of this process: all, what is its own, and what it maps from files."""
    names = {"VmRSS": "resident", "RssAnon": "anonymous", "RssFile": "mapped", "VmHWM": "peak"}
    found = {}
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name in names:
            found[f"{names[name]}_bytes"] = int(value.split()[0]) * 1024
    return found


def serve(engine: Engine, commands: Iterable[str], answers: TextIO) -> None:
    """Answer commands until there are no more; says what the process burnt while it waited for each."""
    since, burnt = time.perf_counter(), time.process_time()
    for line in commands:
        idle = {
            "idle_seconds": time.perf_counter() - since,
            "idle_cpu_seconds": time.process_time() - burnt,
        }
        try:
            answer = {**_answer(engine, json.loads(line)), **idle}
        except Exception as error:  # noqa: BLE001 - whatever it is, the other side must hear of it
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
    answer = engine.generate(command["ids"], wanted, Mode(command["mode"]))
    if len(answer["token_ids"]) != wanted:
        raise ValueError(f"{len(answer['token_ids'])} tokens were written, not {wanted}")
    return {**answer, "new_tokens": wanted}


def say(answers: TextIO, answer: Answer) -> None:
    """Write one line."""
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Load the engine named on the command line and serve it; return the exit status."""
    parser = argparse.ArgumentParser(description="One engine in a process of its own.")
    engines = parser.add_subparsers(dest="engine", required=True)
    ptgc = engines.add_parser("ptgc", help="a build of a bundle")
    ptgc.add_argument("bundle", type=Path)
    ptgc.add_argument("build")
    genai = engines.add_parser("genai", help="a folder of onnxruntime-genai")
    genai.add_argument("folder", type=Path)
    for engine_parser in (ptgc, genai):
        engine_parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # what libraries print must not come between the answers
        before = memory()
        start = time.perf_counter()
        engine: Engine
        if options.engine == "ptgc":
            engine = PtgcEngine(options.bundle, options.build, options.threads)
        else:
            os.environ["ORT_DISABLE_TELEMETRY"] = "1"
            engine = GenaiEngine(options.folder, options.threads)
        loaded = time.perf_counter() - start
        say(answers, {"ready": {"load_seconds": loaded, "before_load": before, "after_load": memory()}})
        serve(engine, sys.stdin, answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
