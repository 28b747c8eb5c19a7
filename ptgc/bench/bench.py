"""Measures a bundle: assembles the contestants, runs them in turns, and makes the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rich.console import Console

from ptgc.bench.absences import Absences
from ptgc.bench.checkpoint_files import check_origin, check_same_model, read_checkpoint
from ptgc.bench.contestants import AUTOREGRESSIVE, Entrant, beside_entrant, own_entrant, plain_entrant, precision_of
from ptgc.bench.measuring import run_all, start_workers, warm_up
from ptgc.bench.options import BenchOptions
from ptgc.bench.peers import PEERS
from ptgc.bench.peers.base import Peer, PeerTask
from ptgc.bench.provenance import machine, num_cores, provenance
from ptgc.bench.report import summarize
from ptgc.errors import BackendError, BuildError, BundleError, UsageError
from ptgc.runtime.costs import read_costs
from ptgc.runtime.load_options import DRAFT_LENGTHS
from ptgc.spec.bundle import Build, Bundle, open_bundle
from ptgc.spec.loop import Loop
from ptgc.texts.prompt_set import PromptSet, read_sets

_DEVICE = "cpu"


def bench(path: Path, options: BenchOptions, notes: Console) -> dict[str, Any]:
    """Run a bundle's strategy, plain decoding and peers on the same prompts, in turns.

    Args:
        path: The bundle.
        options: What to measure.
        notes: The console for progress.

    Returns:
        The report: `rows`, `machine`, `provenance` and more, and under `texts` every run.

    Raises:
        PtgcError: Options contradict each other, a build is missing or too short, an engine of ours fails, or a named
            peer cannot start. Peers that were not named, and those that fail later, are left out; `absent` says why.
    """
    check_options(options)
    bundle = open_bundle(path)
    sets = read_sets(options.prompts, bundle, options.num_prompts)
    builds = choose_builds(bundle, options, sets)
    threads = options.num_threads or num_cores()
    before = machine()
    absences = Absences(notes, named=options.against is not None)
    with ExitStack() as stack:
        entrants = assemble(bundle, builds, options, sets, notes, absences)
        prompts = [prompt for one in sets for prompt in one.prompts]
        workers = start_workers(stack, entrants, absences)
        workers = warm_up(workers, prompts[0], options.max_new_tokens, absences)
        runs = run_all(workers, prompts, options.repeats, options.max_new_tokens, notes, absences)
        loads = {worker.name: worker.ready for worker in workers.values()}
    return {
        "benchmark": "bench",
        **summarize(runs, {prompt.name: prompt.ids for prompt in prompts}),
        "absent": absences.found,
        "machine": before,
        "provenance": provenance(["ptgc", "bench"], options.arguments(path), bundle, threads),
        "settings": _settings(options, sets, entrants),
        "loads": loads,
        "texts": [run.to_json() for run in runs],
    }


def check_options(options: BenchOptions) -> None:
    """Refuse options that cannot be measured.

    Raises:
        UsageError: The error names every problem.
    """
    problems = []
    if options.max_new_tokens < 2:
        problems.append("--max-new-tokens is 1; the first token is prefill, so decoding needs 2 or more.")
    if options.draft_length not in (None, *DRAFT_LENGTHS):
        problems.append(f"--draft-length is {options.draft_length}; it must be {' or '.join(DRAFT_LENGTHS)}.")
    named = options.against or ()
    known = (AUTOREGRESSIVE, *PEERS)
    unknown = [name for name in named if name not in known]
    if unknown:
        problems.append(f"--against has {', '.join(unknown)}; there are: {', '.join(known)}.")
    if options.model is None and any(name in PEERS for name in named):
        problems.append("Peers read the checkpoint that the bundle was exported from: name it with --model.")
    if options.drafter is not None and options.model is None:
        problems.append("--drafter is for peers, which need --model as well.")
    if problems:
        raise UsageError("\n".join(problems))


def choose_builds(bundle: Bundle, options: BenchOptions, sets: Sequence[PromptSet]) -> list[Build]:
    """The named builds, or the newest one; all are long enough for the prompts and their texts.

    Raises:
        BundleError: A build is missing or too short; the error says how to make it.
        UsageError: Two builds have the same precision.
    """
    builds = [bundle.build(name, _DEVICE) for name in options.builds or (None,)]
    if len({precision_of(build) for build in builds}) != len(builds):
        raise UsageError("--build names two builds of one precision; their rows would have one name.")
    if bundle.manifest.plan.loop is Loop.SPECULATIVE:
        for build in builds:
            _check_length(bundle, build, max(one.longest for one in sets) + options.max_new_tokens)
    return builds


def _check_length(bundle: Bundle, build: Build, length: int) -> None:
    holds = build.manifest.shapes.max_length
    if holds < length:
        raise BundleError(
            f"Build '{build.manifest.id}' holds {holds} tokens; the longest prompt and its text take {length}.",
            f"Make one: ptgc build {bundle.path} --precision {precision_of(build)} --max-length {length}",
        )


def assemble(
    bundle: Bundle,
    builds: Sequence[Build],
    options: BenchOptions,
    sets: Sequence[PromptSet],
    notes: Console,
    absences: Absences,
) -> list[Entrant]:
    """All contestants: strategy and plain decoding of every build, a plain bundle, and peers."""
    threads = options.num_threads or num_cores()
    datastore = _datastore(bundle, options)
    entrants = [own_entrant(bundle, build, threads, options.draft_length, datastore) for build in builds]
    for build in builds:
        note_missing_costs(build, threads, notes)
    length = max(one.longest for one in sets) + options.max_new_tokens
    for path in options.beside:
        other = open_bundle(path)
        check_same_model(bundle, other)
        for build in builds:
            like = _build_like(other, build, length)
            note_missing_costs(like, threads, notes)
            entrant = own_entrant(other, like, threads, options.draft_length, _datastore(other, options))
            entrants.append(beside_entrant(entrant, other))
    if options.plain_bundle is not None:
        plain = open_bundle(options.plain_bundle)
        entrants += [plain_entrant(plain, _build_like(plain, build, length), threads) for build in builds]
    check_names(entrants)
    peers = choose_peers(options, absences)
    if peers and bundle.manifest.plan.loop is not Loop.SPECULATIVE:
        raise UsageError(f"No peer runs strategy '{bundle.manifest.plan.strategy}'; leave --against out.")
    if peers:
        task = peer_task(bundle, options, length)
        entrants += peer_entrants(task, builds, peers, notes, absences)
    return entrants


def check_names(entrants: Sequence[Entrant]) -> None:
    """Refuse contestants that rows could not tell apart.

    Raises:
        UsageError: The error names them.
    """
    names = [one.name for entrant in entrants for one in entrant.contestants]
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise UsageError(
            f"Two bundles are called {', '.join(twice)}.",
            "A bundle of --beside is called after its folder: rename one, or leave it out.",
        )


def choose_peers(options: BenchOptions, absences: Absences) -> list[Peer]:
    """The peers that are installed.

    Raises:
        BackendError: A named peer is not installed.
    """
    if options.model is None:
        return []
    named = options.against
    found = []
    for name in PEERS if named is None else [name for name in named if name in PEERS]:
        try:
            PEERS[name].require()
        except BackendError as error:
            absences.cannot_begin(name, error)
        else:
            found.append(PEERS[name])
    return found


def peer_task(bundle: Bundle, options: BenchOptions, max_length: int) -> PeerTask:
    """The checkpoints and settings for peers.

    Raises:
        UsageError: The checkpoint is not that of the bundle.
    """
    assert options.model is not None
    target = read_checkpoint(options.model)
    check_origin(bundle, target)
    drafter = read_checkpoint(options.drafter) if options.drafter else None
    return PeerTask(target, drafter, bundle.manifest.plan, options.num_threads or num_cores(), max_length)


def peer_entrants(
    task: PeerTask, builds: Sequence[Build], peers: Sequence[Peer], notes: Console, absences: Absences
) -> list[Entrant]:
    """The entrants of peers at the precisions of the builds, without those that cannot be made."""

    def say(step: str) -> None:
        notes.print(step, markup=False)

    entrants = []
    for peer in peers:
        precisions = dict.fromkeys(peer.precision(build) for build in builds)
        if None in precisions:
            lacking = ", ".join(precision_of(build) for build in builds if peer.precision(build) is None)
            absences.add(peer.name, f"It has nothing like the precision of a build ({lacking}).")
        for precision in filter(None, precisions):
            try:
                entrants += peer.entrants(task, precision, say)
            except (BackendError, BuildError) as error:
                absences.cannot_begin(f"{peer.name} {precision}", error)
    return entrants


def _datastore(bundle: Bundle, options: BenchOptions) -> Path | None:
    """The datastore, for the bundles that draft from one; a lone bundle that does not is told so when it is loaded."""
    return options.datastore if not options.beside or bundle.manifest.plan.strategy == "datastore" else None


def _build_like(other: Bundle, build: Build, length: int) -> Build:
    """The newest build of another bundle at the precision of a build's target."""
    wanted = build.manifest.precision["target"]
    fitting = [
        one
        for one in other.builds()
        if one.manifest.device == _DEVICE
        and one.manifest.bundle_sha256 == other.sha256
        and one.manifest.precision.get("target") == wanted
        and one.manifest.shapes.batch == 1
    ]
    if not fitting:
        raise BundleError(
            f"{other.path} has no {wanted} build for one sequence.",
            f"Make one: ptgc build {other.path} --precision {wanted}",
        )
    _check_length(other, fitting[-1], length)
    return fitting[-1]


def note_missing_costs(build: Build, num_threads: int, notes: Console) -> None:
    """Print that draft lengths will be guessed if the build was not measured well with this number of threads."""
    curve = read_costs(build, num_threads)
    if curve is not None and not curve.is_noisy:
        return
    measured, chosen = (
        ("not measured here", "guessed") if curve is None else ("measured on a busy machine", "uncertain")
    )
    notes.print(
        f"Build '{build.manifest.id}' was {measured} with {num_threads} threads, so draft lengths are {chosen}. "
        f"Measure it: ptgc build {build.path.parent.parent} --id {build.manifest.id} "
        f"--stage compile --num-threads {num_threads}",
        markup=False,
        soft_wrap=True,
    )


def _settings(options: BenchOptions, sets: Sequence[PromptSet], entrants: Sequence[Entrant]) -> dict[str, Any]:
    return {
        "prompts": [one.to_json() for one in sets],
        "max_new_tokens": options.max_new_tokens,
        "repeats": options.repeats,
        "engines": [
            {"engine": one.engine, "precision": one.precision, "modes": list(one.modes), **one.facts}
            for one in entrants
        ],
    }
