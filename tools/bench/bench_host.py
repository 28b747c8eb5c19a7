"""The cost of ptgc itself: host time around the engine, unused cache, loading, memory.

    python tools/bench/bench_host.py --bundle DIR --report FILE

The host's share is the time of decoding over the sum of bare engine runs of the same widths, measured in between.
For unused capacity the bundle needs two builds of one precision, made with --max-length 4096 and --max-length 544.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from build_choice import builds_here, newest_build, parse_precisions
from host_cost import HostRun, Mode, measure_host_run, summarize_host_runs
from host_table import print_tables
from report_output import positive, report_errors, result_console
from rich.console import Console

from ptgc.bench.bench import note_missing_costs
from ptgc.bench.contestants import precision_of
from ptgc.bench.figures import Spread
from ptgc.bench.provenance import machine, provenance
from ptgc.bench.report_file import check_report, progress_bar, write_report
from ptgc.bench.worker_process import EngineWorker
from ptgc.errors import BundleError
from ptgc.runtime import Generator
from ptgc.spec.bundle import Build, Bundle, open_bundle
from ptgc.texts.prompt_set import PromptSet, prompt_file, read_prompts

SCRIPT = "tools/bench/bench_host.py"
PRECISIONS = ("float32", "int8", "int4")
LONG_LENGTH, SHORT_LENGTH, PAST_LENGTH = 4096, 544, 512
MEMORY_TOKENS = 64
_RUNS_A_TURN = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure as given on the command line; return the exit status."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parse(given)
    with report_errors() as status:
        report = measure(options, given)
        print_tables(report, result_console())
        write_report(report, options.report)
    return status.code


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the options."""
    parser = argparse.ArgumentParser(description="Measure what ptgc costs around its engines.")
    parser.add_argument("--bundle", type=Path, required=True, help="bundle with builds")
    parser.add_argument("--build", action="append", help="a build; may be repeated (default: newest of --precision)")
    parser.add_argument("--precision", default=",".join(PRECISIONS), help="separated by commas (default: %(default)s)")
    parser.add_argument("--prompts", default="code-edit", help="a set or a file (default: %(default)s)")
    parser.add_argument("--num-prompts", type=positive, default=5, help="number of prompts (default: %(default)s)")
    parser.add_argument("--max-new-tokens", type=positive, default=96, help="per text (default: %(default)s)")
    parser.add_argument("--threads", type=positive, default=2, help="engine threads (default: %(default)s)")
    parser.add_argument("--repeats", type=positive, default=5, help="repeats of each text (default: %(default)s)")
    parser.add_argument("--loads", type=positive, default=5, help="fresh processes per build (default: %(default)s)")
    parser.add_argument("--long-build", help=f"default: newest with --max-length {LONG_LENGTH}")
    parser.add_argument("--short-build", help=f"default: newest with --max-length {SHORT_LENGTH}")
    parser.add_argument("--report", type=Path, help="JSON file to write")
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace, arguments: Sequence[str]) -> dict[str, Any]:
    """Measure all parts, one after the other."""
    check_report(options.report)
    bundle = open_bundle(options.bundle)
    prompts = read_prompts(prompt_file(options.prompts), bundle, options.num_prompts)
    builds = choose_builds(bundle, options, prompts.longest + max(options.max_new_tokens, MEMORY_TOKENS))
    notes = Console(stderr=True, highlight=False)
    pair = capacity_pair(bundle, options, notes)
    report: dict[str, Any] = {
        "benchmark": "host",
        "machine": machine(),
        "provenance": provenance(["python", SCRIPT], arguments, bundle, options.threads),
        "settings": {"prompts": prompts.to_json(), "max_new_tokens": options.max_new_tokens},
        "builds": {},
    }
    for build in builds:
        note_missing_costs(build, options.threads, notes)
        runs = list(host_runs(build, bundle, prompts, options, notes))
        report["builds"][build.manifest.id] = {
            "precision": precision_of(build),
            "max_length": build.manifest.shapes.max_length,
            "weight_bytes": build.manifest.weight_bytes,
            "host": summarize_host_runs(runs),
            "load": measure_loads(build, bundle, prompts, options),
            "runs": [run.to_json() for run in runs],
        }
    report["unused_capacity"] = measure_capacity(*pair, bundle, options, notes) if pair else None
    return report


def choose_builds(bundle: Bundle, options: argparse.Namespace, min_length: int) -> list[Build]:
    """The named builds, or the newest of each requested precision.

    Raises:
        BundleError: No such build.
    """
    if options.build:
        return [bundle.build(name) for name in options.build]
    wanted = parse_precisions(options.precision, PRECISIONS)
    return [newest_build(bundle, precision, min_length) for precision in wanted]


def host_runs(
    build: Build, bundle: Bundle, prompts: PromptSet, options: argparse.Namespace, notes: Console
) -> Iterator[HostRun]:
    """Measure texts and bare runs in turns, in this process."""
    total = len(prompts.prompts) * options.repeats * len(Mode)
    with Generator(bundle.path, build=build.manifest.id, num_threads=options.threads) as generator:
        for mode in Mode:
            measure_host_run(generator, prompts.prompts[0], mode, options.max_new_tokens, 0)  # warms up
        with progress_bar(notes, f"Host cost of {build.manifest.id}", total) as advance:
            for repeat in range(options.repeats):
                for prompt in prompts.prompts:
                    for mode in Mode:
                        yield measure_host_run(generator, prompt, mode, options.max_new_tokens, repeat)
                        advance()


def capacity_pair(bundle: Bundle, options: argparse.Namespace, notes: Console) -> tuple[Build, Build] | None:
    """Two builds that differ in length, or None with a note on how to make them.

    Raises:
        BundleError: A named build is missing or does not fit.
    """
    long = _build_of_length(bundle, options.long_build, LONG_LENGTH)
    precision = precision_of(long) if long else None
    short = _build_of_length(bundle, options.short_build, SHORT_LENGTH, precision)
    if long is not None and short is not None:
        return long, short
    notes.print(
        f"Unused capacity is not measured: it takes two builds of one precision, made with\n"
        f"ptgc build {bundle.path} --max-length {LONG_LENGTH}\n"
        f"ptgc build {bundle.path} --max-length {SHORT_LENGTH}",
        markup=False,
        soft_wrap=True,
    )
    return None


def _build_of_length(bundle: Bundle, name: str | None, length: int, precision: str | None = None) -> Build | None:
    if name is None:
        found = [build for build in builds_here(bundle) if build.manifest.shapes.max_length == length]
        return next((b for b in reversed(found) if precision in (None, precision_of(b))), None)
    build = bundle.build(name)
    if build.manifest.shapes.max_length < SHORT_LENGTH or build.manifest.shapes.batch != 1:
        raise BundleError(
            f"Build '{name}' holds {build.manifest.shapes.batch} sequences of "
            f"{build.manifest.shapes.max_length} tokens; this needs one of {SHORT_LENGTH} or more.",
            f"Make one: ptgc build {bundle.path} --max-length {length}",
        )
    return build


def measure_capacity(
    long: Build, short: Build, bundle: Bundle, options: argparse.Namespace, notes: Console
) -> dict[str, Any]:
    """Measure rounds with the same text in a large and in a small cache, in turns."""
    turns = 10 * options.repeats
    cores = {
        name: Generator(bundle.path, build=build.manifest.id, num_threads=options.threads).core
        for name, build in (("long", long), ("short", short))
    }
    verify = min(one.manifest.shapes.roles["target"].verify_width for one in (long, short))
    widths = sorted({1, verify} if PAST_LENGTH + verify <= SHORT_LENGTH else {1})
    found: dict[str, Any] = {"long": long.manifest.id, "short": short.manifest.id, "past_length": PAST_LENGTH}
    with progress_bar(notes, "Unused capacity", len(widths)) as advance:
        for width in widths:
            samples: dict[str, list[float]] = {"long": [], "short": []}
            for core in cores.values():
                core.measure(width, width, PAST_LENGTH, _RUNS_A_TURN)  # warms up
            for _ in range(turns):
                for name, core in cores.items():
                    samples[name] += core.measure(width, width, PAST_LENGTH, _RUNS_A_TURN)
            spreads = {name: Spread.of(times) for name, times in samples.items()}
            found[f"width_{width}"] = {
                **{f"{name}_seconds": spread.to_json() for name, spread in spreads.items()},
                "ratio": spreads["long"].median / spreads["short"].median,
            }
            advance()
    for core in cores.values():
        core.close()
    return found


def measure_loads(build: Build, bundle: Bundle, prompts: PromptSet, options: argparse.Namespace) -> dict[str, Any]:
    """Measure loads in fresh processes; the first one also writes some text."""
    settings = {"bundle": str(bundle.path), "build": build.manifest.id, "num_threads": options.threads}
    ready, starts, memory = [], [], {}
    for load in range(options.loads):
        with EngineWorker(build.manifest.id, "ptgc", settings) as worker:
            ready.append(worker.ready)
            starts.append(worker.start_seconds)
            if load == 0:
                worker.generate(prompts.prompts[0].ids, MEMORY_TOKENS, Mode.DRAFTS.value)
                memory = worker.memory()
    return {
        "load_seconds": Spread.of(one["load_seconds"] for one in ready).to_json(),
        "start_seconds": Spread.of(starts).to_json(),
        "before_load": ready[0]["before_load"],
        "after_load": ready[0]["after_load"],
        "after_text": memory,
    }


if __name__ == "__main__":
    sys.exit(main())
