"""ptgc beside onnxruntime-genai: the same weights, prompts, threads and number of tokens.

    python tools/bench/bench_genai.py --bundle DIR --model HF_DIR --report FILE

Folders for onnxruntime-genai are made when they are needed and kept in the cache; of ptgc the newest build of each
precision is taken. Every engine has a process of its own, and they take turns, text by text.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from build_choice import newest_builds, note_missing_costs, parse_precisions
from engine_worker import GENAI_NGRAM, Mode
from figures import rotated
from genai_folder import PRECISIONS, genai_folder, genai_version, source_hash
from genai_report import AUTOREGRESSIVE, ENGINES, Contestant, Run, summarize
from genai_table import print_tables
from prompt_set import CODE_EDIT, Prompt, PromptSet, read_prompts
from provenance import provenance
from report_output import check_report, positive, progress_bar, report_errors, result_console, write_report
from rich.console import Console
from worker_process import EngineWorker

from ptgc.errors import UsageError
from ptgc.runtime.costs import read_costs
from ptgc.spec.bundle import Build, Bundle, open_bundle

SCRIPT = "tools/bench/bench_genai.py"
PAUSE_SECONDS = 0.1
"""Between two texts: threads of the last engine spin for about 35 ms before they sleep."""

Workers = dict[tuple[str, str], EngineWorker]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as the command line says; return the exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parse(given)
    with report_errors() as status:
        report = measure(options, given)
        print_tables(report, result_console())
        write_report(report, options.report)
    return status.code


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description="Compare ptgc with onnxruntime-genai.")
    parser.add_argument("--bundle", type=Path, required=True, help="bundle with builds")
    parser.add_argument("--plain-bundle", type=Path, help="bundle of strategy autoregressive, run beside the others")
    parser.add_argument("--model", type=Path, required=True, help="Hugging Face directory it was exported from")
    parser.add_argument("--precision", default=",".join(PRECISIONS), help="with commas (default: %(default)s)")
    parser.add_argument("--prompts", type=Path, default=CODE_EDIT, help="default: prompts/code-edit.jsonl")
    parser.add_argument("--num-prompts", type=positive, help="the first so many (default: all)")
    parser.add_argument("--max-new-tokens", type=positive, default=96, help="of each text (default: %(default)s)")
    parser.add_argument("--threads", type=positive, default=2, help="of each engine (default: %(default)s)")
    parser.add_argument("--repeats", type=positive, default=3, help="of each text (default: %(default)s)")
    parser.add_argument("--report", type=Path, help="JSON file to write")
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace, arguments: Sequence[str]) -> dict[str, Any]:
    """Make what is missing, run all engines, and sum up."""
    precisions = parse_precisions(options.precision, PRECISIONS)
    if options.max_new_tokens < 2:
        raise UsageError("--max-new-tokens is 1; the first token is prefill, so decoding needs 2 or more.")
    check_report(options.report)
    bundle = open_bundle(options.bundle)
    if bundle.manifest.plan.drafter.num_draft_tokens == 0:
        raise UsageError(
            f"{options.bundle} decodes plainly; its ngram mode would measure nothing.",
            "Export it again with --strategy ngram.",
        )
    genai_version()
    source_hash(options.model)
    prompts = read_prompts(options.prompts, bundle, options.num_prompts)
    builds = newest_builds(bundle, precisions, prompts.longest + options.max_new_tokens)
    notes = Console(stderr=True, highlight=False)
    folders = {
        precision: genai_folder(options.model, precision, lambda step: notes.print(step, markup=False))
        for precision in precisions
    }
    for build in builds.values():
        note_missing_costs(build, options.threads, notes)
    before = provenance(SCRIPT, arguments, bundle, options.threads)
    with ExitStack() as stack:
        workers = start_workers(stack, bundle, builds, folders, options.threads)
        workers |= start_plain_workers(stack, options, precisions, prompts)
        runs = list(run_all(workers, prompts, options.repeats, options.max_new_tokens, notes))
        loads = {f"{precision} {engine}": worker.ready for (precision, engine), worker in workers.items()}
    found = summarize(runs, {prompt.name: prompt.ids for prompt in prompts.prompts})
    return {
        "benchmark": "genai",
        "provenance": before,
        "settings": _settings(options, prompts, builds, folders),
        **found,
        "loads": loads,
        "runs": [run.to_json() for run in runs],
    }


def start_workers(
    stack: ExitStack, bundle: Bundle, builds: dict[str, Build], folders: dict[str, Path], num_threads: int
) -> Workers:
    """One process for every engine and precision."""
    workers: Workers = {}
    threads = ["--threads", str(num_threads)]
    for precision, build in builds.items():
        ours = ["ptgc", str(bundle.path), build.manifest.id, *threads]
        theirs = ["genai", str(folders[precision]), *threads]
        for engine, command in (("genai", theirs), ("ptgc", ours)):
            workers[precision, engine] = stack.enter_context(EngineWorker(f"{engine} {precision}", command))
    return workers


def start_plain_workers(
    stack: ExitStack, options: argparse.Namespace, precisions: Sequence[str], prompts: PromptSet
) -> Workers:
    """One process for every precision of the bundle that decodes plainly, where one was given."""
    if options.plain_bundle is None:
        return {}
    bundle = open_bundle(options.plain_bundle)
    builds = newest_builds(bundle, precisions, prompts.longest + options.max_new_tokens)
    threads = ["--threads", str(options.threads)]
    return {
        (precision, AUTOREGRESSIVE): stack.enter_context(
            EngineWorker(f"{AUTOREGRESSIVE} {precision}", ["ptgc", str(bundle.path), build.manifest.id, *threads])
        )
        for precision, build in builds.items()
    }


def run_all(workers: Workers, prompts: PromptSet, repeats: int, max_new_tokens: int, notes: Console) -> Iterator[Run]:
    """Every text of every contestant, in turns."""
    contestants = [
        Contestant(p, e, mode) for p, e in workers for mode in Mode if e != AUTOREGRESSIVE or mode is Mode.PLAIN
    ]
    with progress_bar(notes, "Measuring", len(prompts.prompts) * repeats * len(contestants)) as advance:
        for contestant in contestants:
            warm_up(workers[contestant.precision, contestant.engine], prompts.prompts[0], contestant.mode)
        for turn, (prompt, repeat) in enumerate((p, r) for p in prompts.prompts for r in range(repeats)):
            for contestant in rotated(contestants, turn):
                worker = workers[contestant.precision, contestant.engine]
                yield run_once(worker, contestant, prompt, repeat, max_new_tokens)
                advance()


def warm_up(worker: EngineWorker, prompt: Prompt, mode: Mode) -> None:
    """A short text that is not counted: the first run of a shape allocates."""
    worker.generate(prompt.ids, 16, mode.value)


def run_once(worker: EngineWorker, contestant: Contestant, prompt: Prompt, repeat: int, max_new_tokens: int) -> Run:
    """One text."""
    time.sleep(PAUSE_SECONDS)
    answer = worker.generate(prompt.ids, max_new_tokens, contestant.mode.value)
    return Run(
        precision=contestant.precision,
        engine=contestant.engine,
        mode=contestant.mode.value,
        prompt=prompt.name,
        repeat=repeat,
        token_ids=tuple(answer["token_ids"]),
        prefill_seconds=answer["prefill_seconds"],
        decode_seconds=answer["decode_seconds"],
        rounds=answer["rounds"],
        drafted_tokens=answer["drafted_tokens"],
        accepted_tokens=answer["accepted_tokens"],
        idle_seconds=answer["idle_seconds"],
        idle_cpu_seconds=answer["idle_cpu_seconds"],
    )


def _settings(
    options: argparse.Namespace, prompts: PromptSet, builds: dict[str, Build], folders: dict[str, Path]
) -> dict[str, Any]:
    return {
        "prompts": prompts.to_json(),
        "max_new_tokens": options.max_new_tokens,
        "repeats": options.repeats,
        "engines": list(ENGINES),
        "genai_ngram": GENAI_NGRAM,
        "builds": {precision: _describe(build, options.threads) for precision, build in builds.items()},
        "genai_weight_bytes": {
            precision: sum(path.stat().st_size for path in folder.glob("*.onnx*"))
            for precision, folder in folders.items()
        },
    }


def _describe(build: Build, num_threads: int) -> dict[str, Any]:
    made = build.manifest
    return {
        "id": made.id,
        "max_length": made.shapes.max_length,
        "weight_bytes": made.weight_bytes,
        "has_cost_curve": read_costs(build, num_threads) is not None,
        "provenance": made.provenance,
    }


if __name__ == "__main__":
    sys.exit(main())
