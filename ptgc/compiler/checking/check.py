"""Checks every stage of a bundle against the texts that PyTorch wrote at export."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptgc.compiler.checking.engine import check_engine
from ptgc.compiler.checking.fidelity import role_fidelity
from ptgc.compiler.checking.graphs import check_outputs, check_texts, explain
from ptgc.compiler.checking.judged_text import judged_text
from ptgc.compiler.checking.loops import check_loop, runner
from ptgc.compiler.checking.references import read_references, read_role_references
from ptgc.compiler.checking.report import EXACT, StageReport
from ptgc.compiler.graph_session import writes, writes_alone
from ptgc.errors import UsageError
from ptgc.extras import how_to_install
from ptgc.graphs.reference_loops import RoleCall
from ptgc.runtime.libraries import device_is_here
from ptgc.spec.bundle import RUNNABLE, Build, Bundle, open_bundle
from ptgc.spec.loop import Loop
from ptgc.spec.reference import References
from ptgc.spec.role import Role
from ptgc.texts.sample_text import read_sample_text

Progress = Callable[[str], None]

_NEEDS_ONNX = f"not looked at, which needs ONNX's Python packages: {how_to_install('build')}"


@dataclass(frozen=True)
class Task:
    """What to check, and against what."""

    bundle: Bundle
    """The bundle."""
    references: Mapping[str, References]
    """Reference texts by role, for roles that are language models on their own."""
    main: References
    """Reference texts of the whole bundle."""
    text: Path | None = None
    """The file to measure fidelity on; None takes the reference texts."""
    datastore: Path | None = None
    """The datastore that the strategy drafts from, if it does."""

    @property
    def vocab_size(self) -> int:
        """The vocabulary size; token ids are smaller."""
        return self.bundle.manifest.model.vocab_size


def check_bundle(
    path: str | Path,
    progress: Progress = lambda _: None,
    *,
    original: Mapping[str, Any] | None = None,
    text: Path | None = None,
    datastore: Path | None = None,
) -> list[StageReport]:
    """Compare in order PyTorch, the canonical graphs, and every build's prepared graphs and engine.

    The error lies in the first stage that fails; later stages inherit it. Weights that are NaN or infinite end the
    check. If ONNX's Python packages are missing, the stages that need them are skipped, and their reports say so.

    Args:
        path: The bundle.
        progress: Called with each step.
        original: What PyTorch writes now, in the format of the bundle's reference file; None skips this comparison.
        text: A file to measure the fidelity of quantised builds on; None takes the reference texts.
        datastore: What the strategy drafts from, if it drafts from a datastore.

    Raises:
        PtgcError: The bundle or a build is damaged or packed, a backend is missing, or the text is unusable.
    """
    bundle = open_bundle(path)
    main = read_references(bundle)
    progress("Checking the bundle's files")
    bundle.verify()
    if text is not None:
        _check_text(text, bundle)
    task = Task(bundle, _role_references(bundle, main), main, text, datastore)
    reports = []
    if original is not None:
        reports.append(_check_original(main, References.from_json(original)))
    if bundle.manifest.packed is None:
        progress("Looking at the weights")
        weights = _check_weights("weights", bundle.path, bundle.manifest.roles)
        reports.append(weights)
        if not weights.passed:
            return reports
        progress("Running the canonical graphs")
        reports += _check_canonical(task)
    builds, refused = bundle.read_builds()
    for build in builds:
        progress(f"Checking build {build.manifest.id}")
        reports += _check_build(task, build)
    return reports + [StageReport(name, divergences=[error.message]) for name, error in refused.items()]


def _check_weights(stage: str, folder: Path, roles: Mapping[str, Role]) -> StageReport:
    try:
        from ptgc.compiler.checking.weights import check_weights
    except ImportError:
        return StageReport(f"{stage}: {_NEEDS_ONNX}", exact=False)
    return check_weights(stage, folder, roles)


def _check_engine_files(build: Build) -> StageReport:
    try:
        from ptgc.compiler.checking.engine_files import check_engine_files
    except ImportError:
        return StageReport(f"{build.manifest.id}: engines: {_NEEDS_ONNX}", exact=False)
    return check_engine_files(build)


def _check_text(text: Path, bundle: Bundle) -> None:
    """Refuse an unusable text before any work is done.

    Raises:
        UsageError: The text is unusable, or nothing can be measured on it.
    """
    alone = [name for name, role in bundle.manifest.roles.items() if writes_alone(role)]
    if not alone or bundle.manifest.packed is not None:
        raise UsageError(
            "--text measures builds of decoder-only models beside the bundle's own graphs, and there are none here.",
            "Leave it out.",
        )
    for name in alone:
        read_sample_text(text, bundle, name)


def _role_references(bundle: Bundle, main: References) -> dict[str, References]:
    found = {}
    for name, role in bundle.manifest.roles.items():
        own = main if name == "target" else read_role_references(bundle, name)
        if own is not None and writes(role):
            found[name] = own
    return found


def _check_original(recorded: References, written: References) -> StageReport:
    """Compare what PyTorch writes now with what it wrote at export."""
    report = StageReport("PyTorch", exact=recorded.dtype == "float32")
    if len(recorded.texts) != len(written.texts):
        report.divergences.append(f"{len(written.texts)} texts were written, not {len(recorded.texts)}")
        return report
    for number, (one, other) in enumerate(zip(recorded.texts, written.texts, strict=True)):
        report.tokens += len(one.token_ids)
        same = sum(map(int.__eq__, one.token_ids, other.token_ids))
        report.kept += same
        if one.prompt_ids != other.prompt_ids:
            report.divergences.append(f"text {number}: the prompt's tokens are others; was it this checkpoint?")
        elif report.exact and same < len(one.token_ids):
            report.divergences.append(f"text {number}: {len(one.token_ids) - same} tokens are others")
        for left, right in zip(one.top_logits, other.top_logits, strict=False):
            difference = max(abs(a - b) for a, b in zip(left, right, strict=True))
            report.largest_difference = max(report.largest_difference, difference)
    if report.exact and report.passed and report.largest_difference > EXACT:
        report.divergences.append(f"a logit differs by {report.largest_difference:.3g} from the one at export")
    return report


def _check_canonical(task: Task) -> list[StageReport]:
    reports = []
    for name, references in task.references.items():
        role = task.bundle.manifest.roles[name]
        if references.dtype == "float32":
            stage = _named("canonical graph", name)
            path, texts = task.bundle.path / role.graph, references.texts
            encoder = _encoder(task.bundle.path, task.bundle.manifest.roles, role)
            reports.append(check_texts(stage, path, role, texts, exact=True, encoder=encoder))
    manifest = task.bundle.manifest
    if manifest.plan.loop is not Loop.SPECULATIVE and task.main.dtype == "float32":
        roles, texts = manifest.roles, task.main.texts
        reports.append(check_loop("canonical graphs", task.bundle.path, roles, manifest.plan, texts, exact=True))
    return reports


def _check_build(task: Task, build: Build) -> list[StageReport]:
    made = build.manifest
    if made.bundle_sha256 != task.bundle.sha256:
        again = f"ptgc build {task.bundle.path} --id {made.id} --replace"
        return [StageReport(made.id, divergences=[f"made from another export of this bundle; build it again: {again}"])]
    build.verify()
    reports = [_check_weights(f"{made.id}: weights", build.path, made.roles)]
    if not reports[0].passed:
        return reports
    if made.engines:
        reports.append(_check_engine_files(build))
    runs_here = made.backend in RUNNABLE and device_is_here(made.device)
    if made.shapes.batch == 1:
        # ONNX Runtime on the CPU has no bfloat16.
        names = [name for name in made.roles if made.precision[name] != "bfloat16"]
        reports += [_check_prepared(task, build, name) for name in names]
    exact = task.main.dtype == "float32" and set(made.precision.values()) == {"float32"}
    texts = task.main.texts
    if task.bundle.manifest.plan.loop is Loop.SPECULATIVE:
        texts = [text for text in texts if len(text.context) < made.shapes.max_length]
    else:
        texts = [text for text in texts if max(len(text.given), text.canvas_length) <= made.shapes.max_length]
    if texts and runs_here:
        reports += check_engine(task.bundle, build, texts, exact=exact, datastore=task.datastore)
    return reports


def _check_prepared(task: Task, build: Build, name: str) -> StageReport:
    """Compare a prepared graph with the original's texts, or with the canonical graph if it cannot write on its own."""
    stage = _named(f"{build.manifest.id}: prepared graph", name)
    role, canonical = build.manifest.roles[name], task.bundle.manifest.roles[name]
    path, before = build.path / role.graph, task.bundle.path / canonical.graph
    references = task.references.get(name)
    float32 = build.manifest.precision[name] == "float32"
    if references is not None and writes(role):
        texts = [text for text in references.texts if len(text.context) < build.manifest.shapes.max_length]
        encoder = _encoder(build.path, build.manifest.roles, role)
        exact = float32 and references.dtype == "float32"
        report = check_texts(stage, path, role, texts, exact=exact, encoder=encoder)
    elif before.is_file():
        exact = float32 and task.main.dtype == "float32"
        report = check_outputs(stage, (before, canonical), (path, role), task.vocab_size, exact=exact)
    else:
        return StageReport(f"{stage}: not compared, its canonical graph was left out", exact=False)
    if before.is_file():
        explain(report, before, path, task.vocab_size)
        if not float32 and writes_alone(role):
            text = judged_text(task.bundle, name, task.text, build.manifest.shapes.max_length)
            with suppress(ImportError):  # computing a half-precision original in float32 needs ONNX's packages
                report.fidelity = role_fidelity(task.bundle, build, name, text)
    return report


def _encoder(folder: Path, roles: Mapping[str, Role], role: Role) -> RoleCall | None:
    """The loaded encoder that a role attends to; None if it attends to none."""
    return runner(folder / roles["encoder"].graph) if role.cross_states else None


def _named(stage: str, role: str) -> str:
    return stage if role == "target" else f"{stage} of the {role}"
