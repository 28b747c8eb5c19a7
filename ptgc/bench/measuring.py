"""Runs the contestants in turns: all write every text, one after the other, while the rest sleep."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import fields

from rich.console import Console

from ptgc.bench.absences import Absences
from ptgc.bench.contestants import Contestant, Entrant
from ptgc.bench.engines.base import Written
from ptgc.bench.figures import rotated
from ptgc.bench.report_file import progress_bar
from ptgc.bench.runs import Run
from ptgc.bench.worker_process import EngineWorker
from ptgc.errors import BackendError
from ptgc.texts.prompt_set import Prompt

PAUSE_SECONDS = 0.1
"""Pause between two texts, because threads of the last engine spin for about 35 ms before they sleep."""
WARM_UP_TOKENS = 16

Workers = Mapping[Contestant, EngineWorker]


def start_workers(stack: ExitStack, entrants: Sequence[Entrant], absences: Absences) -> Workers:
    """Start one process for every engine.

    Raises:
        BackendError: One of our engines, or a named peer, cannot be loaded.
    """
    workers: dict[Contestant, EngineWorker] = {}
    for entrant in entrants:
        try:
            worker = stack.enter_context(EngineWorker(entrant.name, entrant.worker, entrant.settings))
        except BackendError as error:
            absences.cannot_begin(entrant.name, error, is_own=entrant.is_own)
        else:
            workers |= dict.fromkeys(entrant.contestants, worker)
    return workers


def warm_up(workers: Workers, prompt: Prompt, max_new_tokens: int, absences: Absences) -> Workers:
    """Let every contestant write a short text that does not count, because the first run of a shape allocates.

    Returns:
        The contestants that wrote it.

    Raises:
        BackendError: One of our engines, or a named peer, fails.
    """
    warm: dict[Contestant, EngineWorker] = {}
    for contestant, worker in workers.items():
        try:
            worker.generate(prompt.ids, min(WARM_UP_TOKENS, max_new_tokens), contestant.mode)
        except BackendError as error:
            absences.cannot_begin(contestant.name, error, is_own=contestant.is_own)
        else:
            warm[contestant] = worker
    return warm


def run_all(
    workers: Workers, prompts: Sequence[Prompt], repeats: int, max_new_tokens: int, notes: Console, absences: Absences
) -> list[Run]:
    """Let every contestant write every text, in turns; each turn starts with another contestant.

    Returns:
        The runs of contestants that wrote all texts; the runs of a peer that failed are dropped.

    Raises:
        BackendError: One of our engines fails.
    """
    runs: list[Run] = []
    writing = dict(workers)
    with progress_bar(notes, "Measuring", len(prompts) * repeats * len(workers)) as advance:
        for turn, (prompt, repeat) in enumerate((p, r) for p in prompts for r in range(repeats)):
            for contestant in rotated(list(writing), turn):
                try:
                    runs.append(run_once(writing[contestant], contestant, prompt, repeat, max_new_tokens))
                except BackendError as error:
                    absences.fell_out(contestant.name, error, is_own=contestant.is_own)
                    del writing[contestant]
                advance()
    return [run for run in runs if run.contestant in writing]


def run_once(worker: EngineWorker, contestant: Contestant, prompt: Prompt, repeat: int, max_new_tokens: int) -> Run:
    """Let a contestant write one text."""
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
