"""Tuning: finds the fastest settings of a bundle on this device, from measured rounds and real prompts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ptgc.compiler.checking.fidelity import role_fidelity
from ptgc.compiler.checking.judged_text import judged_text
from ptgc.compiler.precision.precision import MAX_DIVERGENCE
from ptgc.compiler.tuning.cost import measure_costs
from ptgc.compiler.tuning.drafted_rounds import (
    DraftedRound,
    accepted_shares,
    drafted_rounds,
    taken_seconds,
)
from ptgc.compiler.tuning.overlap import overlap_pays
from ptgc.compiler.tuning.token_tree import candidate_trees
from ptgc.compiler.tuning.way import Way, best_way, most_drafts
from ptgc.errors import BuildError, UsageError
from ptgc.runtime.costs import CostCurve, read_costs, write_costs
from ptgc.runtime.generator import Generator, default_num_threads
from ptgc.runtime.load_options import LoadOptions
from ptgc.runtime.tuning import Tuning, write_tuning
from ptgc.spec.bundle import RUNNABLE, Build, Bundle, open_bundle
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan
from ptgc.texts.prompt_set import Prompt, PromptSet, read_sets

Progress = Callable[[str], None]

_DEVICE = "cpu"
_CONFIRMED = 6  # prompts that the choice is verified on
_THE_SAME = 1.01  # times up to this factor of the least count as equal
_WORTH_A_BUILD = 0.97  # a mix of builds' precisions is suggested if it takes less than this share of the best time


@dataclass(frozen=True)
class TuneOptions:
    """What to choose from, and the prompts to tune on."""

    builds: tuple[str, ...] = ()
    """Builds to choose from; empty takes all that fit the device."""
    prompts: tuple[str, ...] = ()
    """Prompt files, or names of prompt sets that come with ptgc."""
    num_prompts: int | None = 8
    """How many prompts of each set to use; None uses all."""
    max_new_tokens: int = 64
    """Most new tokens of each text."""
    threads: tuple[int, ...] = ()
    """Numbers of threads to choose from; empty takes all available processors, half and a quarter of them."""
    max_divergence: float = MAX_DIVERGENCE
    """The most that a build may have lost, in nats per token, to be chosen. A single build may have lost more."""
    text: Path | None = None
    """The text that this loss is measured on; None takes the bundle's reference texts."""
    datastore: Path | None = None
    """The datastore to draft from, which strategies that do so need."""


@dataclass(frozen=True)
class Observed:
    """A build and its measurements."""

    build: Build
    """Which build."""
    divergence: float | None
    """Nats per token that it has lost; None if that cannot be measured."""
    rounds: tuple[DraftedRound, ...]
    """The rounds of all prompts, each drafting as much as the plan allows."""
    curves: dict[int, CostCurve]
    """What its rounds cost, by number of threads."""
    drafter: str | None = None
    """The role that drafted, where several can."""

    def is_of(self, way: Way) -> bool:
        """Whether a way uses this build and drafter."""
        return self.build is way.build and self.drafter == way.drafter


@dataclass(frozen=True)
class Tuned:
    """The result of tuning."""

    plan: DecodePlan
    """The bundle's."""
    ways: tuple[Way, ...]
    """The best number of draft tokens, or tree, for every build, drafter and number of threads."""
    observed: tuple[Observed, ...]
    """Every build, with each of its drafters."""
    chosen: Way
    """The fastest way of a build within the allowed loss. Its draft tokens are an upper limit; in each round the
    runtime drafts as many as pay."""
    tokens_per_round: float
    """New tokens of a round on the prompts, with as many drafts as the runtime chose."""
    tuning: Tuning
    """The choice as it is stored beside the build."""
    measured_speedup: float
    """Speedup of the choice over plain decoding with the same build and threads, on some of the prompts."""
    suggestion: str | None
    """Precisions by role of a build that does not exist yet and would be faster; None if there is none."""


def tune(path: str | Path, options: TuneOptions, progress: Progress = lambda _: None) -> Tuned:
    """Choose build, drafter, threads, and draft tokens or their tree for real prompts here, and store the choice.

    Args:
        path: The bundle.
        options: What to tune on.
        progress: Called with each step.

    Raises:
        UsageError: The prompts do not exist, the strategy drafts nothing, or needs a datastore for that.
        BundleError: A build does not exist.
        BuildError: No build can be tuned, or all have lost too much.
    """
    bundle = open_bundle(path)
    if bundle.manifest.plan.loop is not Loop.SPECULATIVE:
        raise UsageError(
            f"Strategy '{bundle.manifest.plan.strategy}' has no draft tokens to choose a number of.",
            "ptgc bench measures its builds.",
        )
    if options.datastore is None and any(part.kind == "datastore" for part in bundle.manifest.plan.drafter.parts):
        raise UsageError("This bundle drafts from a datastore.", "Tune it for one: ptgc tune BUNDLE --datastore FILE")
    sets = read_sets(options.prompts, bundle, options.num_prompts)
    builds = _builds(bundle, options, sets)
    threads = options.threads or _numbers_of_threads()
    alternatives = bundle.manifest.plan.drafter.alternatives
    observed = tuple(
        _observe(bundle, build, drafter, options, sets, threads, progress)
        for build in builds
        for drafter in (alternatives if len(alternatives) > 1 else (None,))
    )
    ways = tuple(way for one in observed for way in _ways(bundle, one))
    fastest = _fastest(ways, observed, options.max_divergence)
    own = next(one for one in observed if one.is_of(fastest))
    progress(f"{own.build.manifest.id}: writing texts as the runtime drafts")
    chosen, tokens = _settled(bundle, fastest, own, options, sets)
    prompts = _confirmed([prompt for one in sets for prompt in one.prompts])
    tuning = Tuning(
        chosen.num_threads,
        chosen.num_draft_tokens,
        accepted_shares(own.rounds),
        {one.kind: one.sha256 for one in sets},
        _overlaps(bundle, chosen, prompts, options, progress),
        chosen.tree.tree if chosen.tree else None,
        chosen.tree.gains if chosen.tree else (),
        chosen.drafter,
    )
    write_tuning(chosen.build, tuning)
    progress("Comparing the choice with plain decoding")
    speedup = _measured_speedup(bundle, chosen, prompts, options)
    return Tuned(
        bundle.manifest.plan, ways, observed, chosen, tokens, tuning, speedup, _suggestion(observed, fastest, bundle)
    )


def _builds(bundle: Bundle, options: TuneOptions, sets: Sequence[PromptSet]) -> list[Build]:
    """The named builds, or all that fit: for one sequence, long enough, of this export, and runnable here."""
    length = max(one.longest for one in sets) + options.max_new_tokens
    if options.builds:
        builds = [bundle.build(name, _DEVICE) for name in options.builds]
    else:
        newest = bundle.build(None, _DEVICE)
        builds = [
            build
            for build in bundle.builds()
            if build.manifest.bundle_sha256 == newest.manifest.bundle_sha256
            and build.manifest.device == _DEVICE
            and build.manifest.backend in RUNNABLE
        ]
    fitting = [b for b in builds if b.manifest.shapes.batch == 1 and b.manifest.shapes.max_length >= length]
    if not fitting or (options.builds and len(fitting) < len(builds)):
        names = ", ".join(build.manifest.id for build in builds if build not in fitting)
        raise BuildError(
            f"These builds cannot be tuned: {names}. Prompts and texts take {length} tokens, and texts are written one "
            "at a time.",
            f"Make one: ptgc build {bundle.path} --max-length {length}",
        )
    return fitting


def _numbers_of_threads() -> tuple[int, ...]:
    most = default_num_threads()
    return tuple(dict.fromkeys(max(1, most // part) for part in (1, 2, 4)))


def _observe(
    bundle: Bundle,
    build: Build,
    drafter: str | None,
    options: TuneOptions,
    sets: Sequence[PromptSet],
    threads: Sequence[int],
    progress: Progress,
) -> Observed:
    name = build.manifest.id if drafter is None else f"{build.manifest.id}, {drafter}"
    curves = {number: _curve(build, drafter, number, name, progress) for number in threads}
    progress(f"{name}: writing texts")
    most = bundle.manifest.plan.drafter.num_draft_tokens
    fixed = LoadOptions(num_draft_tokens=most, draft_length="fixed", datastore=options.datastore, drafter=drafter)
    rounds = tuple(drafted_rounds(build, sets, options.max_new_tokens, fixed))
    if not rounds:
        raise UsageError(
            "Every text on these prompts ends with its first token, so that there are no rounds to tune.",
            "Give prompts that the model continues.",
        )
    return Observed(build, _divergence(bundle, build, options), rounds, curves, drafter)


def _curve(build: Build, drafter: str | None, num_threads: int, name: str, progress: Progress) -> CostCurve:
    """What rounds cost; those of the target are the same ones for all drafters, so that these are compared alone."""
    curve = read_costs(build, num_threads, drafter)
    if curve is None or curve.is_noisy:
        progress(f"{name}: measuring rounds with {num_threads} threads")
        measured = measure_costs(build, num_threads, progress, drafter)
        if curve is None or measured.noise < curve.noise:
            curve = measured
            write_costs(build, curve, drafter)
    first = read_costs(build, num_threads)
    return curve if drafter is None or first is None else replace(curve, rounds=first.rounds)


def _divergence(bundle: Bundle, build: Build, options: TuneOptions) -> float | None:
    if set(build.manifest.precision.values()) == {"float32"}:
        return 0.0
    role = bundle.manifest.roles["target"]
    if not (bundle.path / role.graph).is_file() or role.cross_states:
        return None
    text = judged_text(bundle, "target", options.text, build.manifest.shapes.max_length)
    try:
        fidelity = role_fidelity(bundle, build, "target", text)
    except ImportError:  # computing a half-precision original in float32 needs ONNX's packages
        return None
    return None if fidelity is None else fidelity.divergence


def _ways(bundle: Bundle, observed: Observed) -> Iterator[Way]:
    """The best way for every number of threads."""
    for curve in observed.curves.values():
        yield replace(best_way(bundle.manifest.plan, observed.build, observed.rounds, curve), drafter=observed.drafter)


def _fastest(ways: Sequence[Way], observed: Sequence[Observed], max_divergence: float) -> Way:
    lost = {one.build.manifest.id: one.divergence or 0.0 for one in observed}
    within = [way for way in ways if len(lost) == 1 or lost[way.build.manifest.id] <= max_divergence]
    if not within:
        found = ", ".join(f"{name} {divergence:.4f}" for name, divergence in lost.items())
        raise BuildError(
            f"Every build has lost more than {max_divergence:g} nats a token: {found}.",
            "Raise --max-divergence, or make a build that keeps more: ptgc build --precision auto",
        )
    return min(within, key=lambda way: way.seconds)


def _loading(way: Way, options: TuneOptions) -> LoadOptions:
    """How a build is loaded to draft in this way."""
    return replace(way.loading, datastore=options.datastore)


def _settled(
    bundle: Bundle, way: Way, own: Observed, options: TuneOptions, sets: Sequence[PromptSet]
) -> tuple[Way, float]:
    """Choose the limit of draft tokens per round: none, the best fixed number, or all that the plan allows.

    With a tree, that is the best tree, or all of the plan's with its most valuable nodes first. The choice goes by the
    measured costs of the rounds taken, not by the clock. Of equally fast limits the largest is taken, because later
    texts may accept more.

    Returns:
        The way, and the new tokens of its rounds.
    """
    curve, drafter = own.curves[way.num_threads], bundle.manifest.plan.drafter
    whole = next(reversed(candidate_trees(bundle.manifest.plan, own.rounds)), None)
    largest = replace(way, num_draft_tokens=most_drafts(drafter, whole), tree=whole)
    found = [(replace(way, num_draft_tokens=0, seconds=way.plain_seconds, tree=None), 1.0)]
    for one in {way.num_draft_tokens: way, largest.num_draft_tokens: largest}.values():
        if one.num_draft_tokens == 0:
            continue
        rounds = list(drafted_rounds(way.build, sets, options.max_new_tokens, _loading(one, options), way.num_threads))
        seconds = taken_seconds(rounds, curve, drafter.rows_at_once, one.loading.tree)
        found.append((replace(one, seconds=seconds), sum(done.accepted + 1 for done in rounds) / len(rounds)))
    least = min(one.seconds for one, _ in found)
    same = [choice for choice in found if choice[0].seconds <= least * _THE_SAME]
    return max(same, key=lambda choice: choice[0].num_draft_tokens)


def _confirmed(prompts: Sequence[Prompt]) -> Sequence[Prompt]:
    return prompts[:: max(1, len(prompts) // _CONFIRMED)][:_CONFIRMED]


def _overlaps(bundle: Bundle, chosen: Way, prompts: Sequence[Prompt], options: TuneOptions, progress: Progress) -> bool:
    if not bundle.manifest.plan.drafter.parts[-1].overlap or chosen.num_draft_tokens == 0:
        return False
    if default_num_threads() <= chosen.num_threads:  # no processor is left for the drafter
        return False
    progress("Comparing drafts made while the target verifies with drafts made in turns")
    return overlap_pays(chosen.build, chosen.num_threads, _loading(chosen, options), prompts, options.max_new_tokens)


def _measured_speedup(bundle: Bundle, chosen: Way, prompts: Sequence[Prompt], options: TuneOptions) -> float:
    """Decoding time of some texts without drafts over that with the choice, measured in turns."""
    seconds = {True: 0.0, False: 0.0}
    with Generator(
        bundle.path,
        build=chosen.build.manifest.id,
        num_threads=chosen.num_threads,
        verify=False,
        **vars(_loading(chosen, options)),
    ) as generator:
        generator.generate(prompts[0].ids, max_new_tokens=4)
        for prompt in prompts:
            for plain in (True, False):
                result = generator.generate(prompt.ids, max_new_tokens=options.max_new_tokens, plain=plain)
                seconds[plain] += result.statistics.decode_seconds
    return seconds[True] / seconds[False] if seconds[False] > 0 else 1.0


def _suggestion(observed: Sequence[Observed], chosen: Way, bundle: Bundle) -> str | None:
    """Precisions of target and drafter from different builds that would be faster together; None if there are none."""
    plan = bundle.manifest.plan
    if not plan.drafter.roles:
        return None
    own = next(one for one in observed if one.is_of(chosen))
    best, found = chosen.seconds * _WORTH_A_BUILD, None
    for other in observed:
        if other.drafter != chosen.drafter:
            continue
        curve = other.curves[chosen.num_threads]
        mixed = CostCurve(
            curve.num_threads,
            curve.past_length,
            own.curves[chosen.num_threads].rounds,
            curve.drafter_rounds,
        )
        seconds = best_way(plan, own.build, own.rounds, mixed).seconds
        if seconds < best:
            role = chosen.drafter or plan.drafter.roles[0]
            precision = other.build.manifest.precision[role]
            best, found = seconds, f"target={own.build.manifest.precision['target']},{role}={precision}"
    return found
