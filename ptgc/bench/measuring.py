"""Taking turns: every text is written by all, one after the other, while the rest sleep."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields

from rich.console import Console

from ptgc.bench.contestants import Contestant, Entrant
from ptgc.bench.engines.base import Written
from ptgc.bench.figures import rotated
from ptgc.bench.report_file import progress_bar
from ptgc.bench.runs import Run
from ptgc.bench.worker_process import EngineWorker
from ptgc.texts.prompt_set import Prompt

PAUSE_SECONDS = 0.1
"""Between two texts: threads of the last engine spin for about 35 ms before they sleep."""
WARM_UP_TOKENS = 16

Workers = Mapping[Contestant, EngineWorker]


def start_workers(stack: ExitStack, entrants: Sequence[Entrant]) -> Workers:
    """One process for every engine.

    Raises:
        BackendError: One of them could not be loaded.
    """
    workers: dict[Contestant, EngineWorker] = {}
    for entrant in entrants:
        name = f"{entrant.engine} {entrant.precision}"
        worker = stack.enter_context(EngineWorker(name, entrant.worker, entrant.settings))
        workers |= dict.fromkeys(entrant.contestants, worker)
    return workers


def run_all(
    workers: Workers, prompts: Sequence[Prompt], repeats: int, max_new_tokens: int, notes: Console
) -> Iterator[Run]:
    """Every text of every contestant, in turns; each turn begins with another one."""
    contestants = list(workers)
    with progress_bar(notes, "Measuring", len(prompts) * repeats * len(contestants)) as advance:
        for contestant, worker in workers.items():
            # Not counted: the first run of a shape allocates.
            worker.generate(prompts[0].ids, min(WARM_UP_TOKENS, max_new_tokens), contestant.mode)
        for turn, (prompt, repeat) in enumerate((p, r) for p in prompts for r in range(repeats)):
            for contestant in rotated(contestants, turn):
                yield run_once(workers[contestant], contestant, prompt, repeat, max_new_tokens)
                advance()


def run_once(worker: EngineWorker, contestant: Contestant, prompt: Prompt, repeat: int, max_new_tokens: int) -> Run:
    """One text."""
    time.sleep(PAUSE_SECONDS)
    answer = worker.generate(prompt.ids, max_new_tokens, contestant.mode)
    return Run(
        contestant=contestant,
        kind=prompt.kind,
        prompt=prompt.name,
        repeat=repeat,
        written=Written(**{field.name: answer[field.name] for field in fields(Written)}),
        idle_seconds=answer["idle_seconds"],
        idle_cpu_seconds=answer["idle_cpu_seconds"],
    )
