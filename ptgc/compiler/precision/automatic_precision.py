"""`--precision auto`: the fastest precision on this machine within the allowed loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace

from ptgc.compiler.backends.base import Backend, Progress
from ptgc.compiler.build.prepare import PrepareTask, prepare
from ptgc.compiler.checking.fidelity import Fidelity, float32_session, measure_fidelity
from ptgc.compiler.graph_session import GraphSession, writes_alone
from ptgc.compiler.precision.precision import AUTO, Precision, of_role, read_precision, spell
from ptgc.compiler.tuning.cost import measure_costs
from ptgc.compiler.tuning.prediction import best_pace
from ptgc.runtime.costs import CostCurve
from ptgc.spec.bundle import BUILDS, Build, open_build
from ptgc.spec.staging import passing_directory

_LOSSLESS = "float32"


@dataclass(frozen=True)
class Judgement:
    """How precisions are judged."""

    texts: Mapping[str, Sequence[Sequence[int]]]
    """Token sequences by role, for the roles that are judged."""
    max_divergence: float
    """The most Kullback-Leibler divergence from the original, in nats per token."""
    num_threads: int | None
    """Threads that rounds are measured with; None takes the available processors."""


@dataclass(frozen=True)
class Trial:
    """One candidate precision, prepared."""

    precision: dict[str, str]
    """The precision of every role."""
    build: Build
    """Its prepared graphs, which are deleted after the choice."""
    fidelity: dict[str, Fidelity]
    """Fidelity of the roles that are judged."""


@dataclass(frozen=True)
class Choice:
    """The precisions that were chosen."""

    precision: dict[str, str]
    """The precision of every role, and of parts that differ."""
    reasons: dict[str, str] = field(default_factory=dict)
    """The reason by role, for the build's provenance."""
    prepared: Build | None = None
    """A build of exactly this precision and these sizes, if one was tried."""


@contextmanager
def choose_precision(task: PrepareTask, asked: Precision, judgement: Judgement, progress: Progress) -> Iterator[Choice]:
    """Replace every `auto` of a build.

    Every candidate of the backend is prepared and compared with the original in float32. Of those within the allowed
    loss, the one whose measured rounds give the fewest seconds per token is taken; if there is none, float32. Roles
    that cannot be judged take the backend's default.

    Args:
        task: The build.
        asked: Precision by role, some `auto`.
        judgement: How precisions are judged.
        progress: Called with each step.

    Yields:
        The choice; tried builds exist until the block ends.
    """
    judged = list(judgement.texts)
    drafter = task.bundle.manifest.plan.drafter
    alternatives = [role for role in drafter.alternatives[1:] if asked[role] == AUTO and "drafter" in judged]
    precision = with_default(task.backend, asked)
    if not judged:
        yield Choice(precision)
        return
    with ExitStack() as stack:
        trials = list(_trials(stack, replace(task, batch_size=1), precision, judged, judgement, progress))
        curves: dict[int, CostCurve] = {}
        reasons = {}
        for role in judged:
            best = _fastest(task, role, trials, curves, judgement, progress)
            precision |= of_role(best.precision, role) if best else {role: _LOSSLESS}
            reasons[role] = _reason(role, precision, trials, judgement.max_divergence)
            progress(f"{role}: {reasons[role]}")
        for role in alternatives:  # which have weights of the first
            precision |= {role: precision["drafter"]}
        same = [trial.build for trial in trials if trial.precision == precision and task.batch_size == 1]
        yield Choice(precision, reasons, same[0] if same else None)


def judged_roles(task: PrepareTask, asked: Precision) -> list[str]:
    """Roles whose precision is chosen by measurement: language models on their own, if builds run here."""
    if not task.backend.candidates:
        return []
    manifest = task.bundle.manifest
    others = manifest.plan.drafter.alternatives[1:]
    roles = [(name, role) for name, role in manifest.roles.items() if name not in others]
    return [name for name, role in roles if asked[name] == AUTO and writes_alone(role)]


def _trials(
    stack: ExitStack,
    task: PrepareTask,
    precision: Precision,
    judged: Sequence[str],
    judgement: Judgement,
    progress: Progress,
) -> Iterator[Trial]:
    """Every candidate, prepared and compared with the original."""
    roles = task.bundle.manifest.roles
    longest = max(len(text) for role in judged for text in judgement.texts[role])
    originals = {
        name: stack.enter_context(float32_session(task.bundle.path / roles[name].graph, roles[name], longest))
        for name in judged
    }
    asked = {key: value for key, value in precision.items() if key not in judged}
    done: list[Precision] = []
    for candidate in task.backend.candidates:
        tried = read_precision(candidate, judged) | asked
        if tried in done:  # candidates that differ only in what was given
            continue
        done.append(tried)
        name = spell(tried, list(roles))
        folder = stack.enter_context(passing_directory(task.bundle.path / BUILDS / f"auto-{name}"))
        progress(f"Trying {candidate}")
        prepare(task, tried, name, folder, progress)
        build = open_build(folder)
        fidelity = {}
        for role in judged:
            made = build.manifest.roles[role]
            session = GraphSession(build.path / made.graph, made, longest)
            fidelity[role] = measure_fidelity(originals[role], session, judgement.texts[role])
        yield Trial(tried, build, fidelity)


def _fastest(
    task: PrepareTask,
    role: str,
    trials: Sequence[Trial],
    curves: dict[int, CostCurve],
    judgement: Judgement,
    progress: Progress,
) -> Trial | None:
    """The trial within the loss with the fewest seconds per token; rounds are only measured if there are several."""
    within = [n for n, trial in enumerate(trials) if trial.fidelity[role].divergence <= judgement.max_divergence]
    if len(within) < 2:
        return trials[within[0]] if within else None
    for number in within:
        if number not in curves:
            curves[number] = measure_costs(trials[number].build, judgement.num_threads, progress)
    drafter = task.bundle.manifest.plan.drafter

    def seconds(number: int) -> float:
        if role != "target":
            return next(iter(curves[number].medians_by_role()[role].values()))
        pace = best_pace(curves[number], drafter.num_draft_tokens, rows_at_once=drafter.rows_at_once)
        return pace.seconds

    return trials[min(within, key=seconds)]


def _reason(role: str, chosen: Precision, trials: Sequence[Trial], max_divergence: float) -> str:
    """The reason, for people and for the build's provenance; it contains nothing that varies from run to run."""
    tried = ", ".join(f"{spell(trial.precision, [role])} {trial.fidelity[role].divergence:.4f}" for trial in trials)
    return f"auto took {spell(chosen, [role])}: at most {max_divergence:g} nats a token; {tried}"


def with_default(backend: Backend, asked: Precision) -> dict[str, str]:
    """Replace every `auto` by the backend's default."""
    return {key: backend.precisions[0] if value == AUTO else value for key, value in asked.items()}
