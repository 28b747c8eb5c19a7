"""Makes a build of a bundle in two stages: prepare on any machine, compile on the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from ptgc.compiler.backends import BACKENDS
from ptgc.compiler.backends.base import Backend, Progress
from ptgc.compiler.build.compile import CompileOptions, compile_build
from ptgc.compiler.build.compiler_options import CompilerOptions
from ptgc.compiler.build.prepare import PrepareTask, adopt, prepare
from ptgc.compiler.build.stage import Stage
from ptgc.compiler.checking.judged_text import judged_text
from ptgc.compiler.graph_session import writes_alone
from ptgc.compiler.precision.automatic_precision import (
    Choice,
    Judgement,
    choose_precision,
    judged_roles,
    with_default,
)
from ptgc.compiler.precision.precision import (
    AUTO,
    MAX_DIVERGENCE,
    QUANTIZED,
    ROUNDS_INPUTS,
    Precision,
    read_precision,
    spell,
)
from ptgc.compiler.precision.quantization.quantizer import Quantizer
from ptgc.errors import BuildError, StorageError, UsageError
from ptgc.spec.bundle import BUILDS, MANIFEST, Build, Bundle, open_build, open_bundle
from ptgc.spec.lowering import Lowering
from ptgc.spec.output import check_folder
from ptgc.spec.staging import locked, staged_directory
from ptgc.texts.sample_text import SampleText, read_sample_text


@dataclass(frozen=True)
class BuildOptions:
    """What to build."""

    backend: str = "onnxruntime"
    """Engine library."""
    device: str | None = None
    """Kind of device; None takes the first that the backend lists."""
    precision: str = AUTO
    """Weight precision, see `precision.read_precision`. `auto` takes the fastest that loses no more than
    `max_divergence`, or the backend's default if builds do not run on this machine."""
    max_divergence: float = MAX_DIVERGENCE
    """The most that `auto` may lose: Kullback-Leibler divergence from the original, in nats per token."""
    text: Path | None = None
    """The text on which `auto` compares precisions; None takes the bundle's reference texts."""
    lowering: Lowering = Lowering.NATIVE
    """Which operators prepared graphs may use."""
    max_length: int | None = None
    """Most tokens of one sequence, prompt and text together; None takes 1024 or the model's context, whichever is
    less."""
    batch_size: int = 1
    """Sequences that are decoded together."""
    build_id: str | None = None
    """Name of the build; None derives one from the options."""
    replace: bool = False
    """Whether to replace an existing build of that name."""
    stage: Stage = Stage.ALL
    """Which stages to run."""
    num_threads: int | None = None
    """Threads that rounds are measured with; None takes the available processors."""
    compiler: CompilerOptions = field(default_factory=CompilerOptions)
    """Options of a compiler that works ahead of time."""
    calibration: Path | None = None
    """A text to quantise with, of the kind that the model will write."""
    quantizer: Quantizer = Quantizer.AUTO
    """How weights are rounded."""


def build(path: str | Path, options: BuildOptions | None = None, progress: Progress = lambda _: None) -> Build:
    """Make a build of a bundle.

    Args:
        path: The bundle.
        options: What to build.
        progress: Called with each step.

    Raises:
        BuildError: The backend or the model does not support the options.
        BackendError: The backend is not installed.
        StorageError: The build exists and `replace` is not set, or it cannot be written.
    """
    options = options or BuildOptions()
    with locked(Path(path) / MANIFEST, progress):
        return _build(open_bundle(path), options, progress)


def _build(bundle: Bundle, options: BuildOptions, progress: Progress) -> Build:
    if options.stage is not Stage.COMPILE:
        bundle.require_graphs("Building")
    backend = BACKENDS.create(options.backend)
    device = options.device or backend.devices[0]
    backend, options = backend.on(device), replace(options, device=device)
    precision = read_precision(options.precision, list(bundle.manifest.roles))
    _check(options, backend, precision)
    task = _task(options, bundle, backend, precision)
    if options.stage is not Stage.COMPILE:
        named = options.build_id or default_id(options, with_default(backend, precision), list(bundle.manifest.roles))
        check_folder(bundle.path / BUILDS / named)
        return _make(options, task, precision, progress)
    build_id = options.build_id or _prepared_id(options, task, precision)
    made = open_build(bundle.path / BUILDS / build_id, bundle.manifest)
    _check_backend(made, backend)
    return compile_build(bundle.path, made, backend, CompileOptions(options.num_threads, options.compiler), progress)


def _check(options: BuildOptions, backend: Backend, precision: Precision) -> None:
    """Refuse wrong options that can be recognised without the bundle, before any work is done."""
    assert options.device is not None
    for value in precision.values():
        backend.check(options.device, backend.precisions[0] if value == AUTO else value, options.lowering)
    if not backend.has_parts and any("." in key for key in precision):
        raise BuildError(
            f"Backend '{backend.name}' has one precision for all matrices of a role.",
            "Leave head= and embedding= out of --precision.",
        )
    if options.stage is not Stage.PREPARE or not backend.compiles_ahead:
        backend.version()
        backend.check_compiler(options.compiler)
    if options.stage is Stage.ALL:
        backend.check_version(options.lowering)  # the lowering of a prepared build is in its build.json
    if options.build_id is not None:
        _check_id(options.build_id)
    if not options.max_divergence > 0:
        raise UsageError(f"--max-divergence is {options.max_divergence:g}; it is a number of nats above 0.")


def _task(options: BuildOptions, bundle: Bundle, backend: Backend, precision: Precision) -> PrepareTask:
    assert options.device is not None
    samples = _calibration(options, bundle, backend, precision)
    _check_quantizer(options, with_default(backend, precision))
    sizes = (options.max_length, options.batch_size)
    return PrepareTask(bundle, backend, options.device, *sizes, samples, options.lowering, options.quantizer)


def _calibration(
    options: BuildOptions, bundle: Bundle, backend: Backend, precision: Precision
) -> dict[str, SampleText]:
    """The text to quantise with, tokenized for each role that reads text on its own (a drafter may differ).

    Raises:
        BuildError: No role would use the text.
        UsageError: The file is not a text or is too short, or the build is prepared already.
    """
    path = options.calibration
    if path is None:
        return {}
    if options.stage is Stage.COMPILE:
        raise UsageError(
            "--calibration is for preparing a build, and --stage compile takes one that is prepared.",
            "Leave --calibration out, or leave --stage out to prepare it again.",
        )
    named = with_default(backend, precision)
    rounded = {key.partition(".")[0] for key, value in named.items() if value in QUANTIZED}
    used = [name for name, role in bundle.manifest.roles.items() if name in rounded and writes_alone(role)]
    if not used:
        raise BuildError(
            f"--calibration quantises decoder-only models at {', '.join(sorted(QUANTIZED))}; this build has "
            + ", ".join(f"{name}={value}" for name, value in named.items())
            + ".",
            "Leave it out, or choose --precision int4.",
        )
    return {name: read_sample_text(path, bundle, name, options.max_length) for name in used}


def _check_quantizer(options: BuildOptions, precision: Precision) -> None:
    """Refuse a quantiser that lacks the text it needs, and a text that nothing would read.

    Raises:
        BuildError: There is nothing to quantise, or the precision already scales channels itself.
        UsageError: A text is missing, or is given but not used.
    """
    quantizer, name = options.quantizer, f"--quantizer {options.quantizer.value}"
    if quantizer is Quantizer.AUTO:
        return
    if options.stage is Stage.COMPILE:
        raise UsageError(f"{name} is for preparing a build, and --stage compile takes one that is prepared.")
    values = set(precision.values())
    if values.isdisjoint(QUANTIZED):
        raise BuildError(f"{name} rounds weights, and no role of this build has any rounded.", "Leave it out.")
    if quantizer.scales_channels and "w8a8" in values:
        raise BuildError(
            f"{name} scales channels, which w8a8 does for activations (SmoothQuant).", "Choose gptq, rtn or hqq."
        )
    if quantizer.reads_text and options.calibration is None:
        raise UsageError(f"{name} needs a text.", "Add --calibration FILE, or choose rtn or hqq.")
    if not quantizer.reads_text and options.calibration is not None and values.isdisjoint(ROUNDS_INPUTS):
        raise UsageError(f"{name} reads no text, and --calibration gives one.", "Leave one of them out.")


def _make(options: BuildOptions, task: PrepareTask, precision: Precision, progress: Progress) -> Build:
    """Prepare a build, compile and measure it if requested, and give it its final name last."""
    progress("Checking the bundle's files")
    task.bundle.verify()
    task.shapes()  # refuses wrong sizes before any work is done
    if options.build_id is not None:
        _check_free(options, task.bundle, options.build_id)
    refusal: BuildError | None = None
    with choose_precision(task, precision, _judgement(options, task, precision), progress) as choice:
        build_id = options.build_id or default_id(options, choice.precision, list(task.bundle.manifest.roles))
        final = task.bundle.path / BUILDS / build_id
        _check_free(options, task.bundle, build_id)
        with staged_directory(final, replace=options.replace) as folder:
            _fill(task, choice, build_id, folder, progress)
            if options.stage is Stage.ALL:
                refusal = _compile_staged(options, task, folder, final, progress)
    if refusal is not None:
        raise refusal
    return open_build(final, task.bundle.manifest)


def _compile_staged(
    options: BuildOptions, task: PrepareTask, folder: Path, final: Path, progress: Progress
) -> BuildError | None:
    """Compile a build that is not yet in its final place.

    Returns:
        The refusal of a compiler that works ahead of time, if the prepared build is to be kept nevertheless; else None.
    """
    compiling = CompileOptions(options.num_threads, options.compiler)
    try:
        compile_build(task.bundle.path, open_build(folder, task.bundle.manifest), task.backend, compiling, progress)
    except BuildError as error:
        if task.backend.compiles_ahead and not final.exists():
            return error
        raise
    return None


def _fill(task: PrepareTask, choice: Choice, build_id: str, folder: Path, progress: Progress) -> None:
    if choice.prepared is not None:
        adopt(task.bundle, choice.prepared, build_id, folder, choice.reasons)
    else:
        prepare(task, choice.precision, build_id, folder, progress, choice.reasons)


def _judgement(options: BuildOptions, task: PrepareTask, precision: Precision) -> Judgement:
    """What `auto` decides by. It covers no role if rounds cannot be measured now.

    Raises:
        UsageError: A text is given but there is nothing to judge on it, or the text is unusable.
    """
    roles = judged_roles(task, precision) if options.stage is Stage.ALL else []
    if options.text is not None and not roles:
        raise UsageError(
            "--text is what --precision auto judges by, and there is nothing to judge: precisions are given, or builds "
            "are not measured here.",
            "Leave it out; `ptgc check --text` says what a build has lost.",
        )
    longest = task.shapes().max_length
    found = {role: judged_text(task.bundle, role, options.text, longest) for role in roles}
    texts: Mapping[str, list] = {role: text for role, text in found.items() if text}  # type: ignore[type-arg]
    return Judgement(texts, options.max_divergence, options.num_threads)


def default_id(options: BuildOptions, precision: Precision, roles: list[str]) -> str:
    """A name that describes the build: `onnxruntime-cpu-int8`, with `-b3` appended for a batch of three."""
    parts = [options.backend, options.device or BACKENDS.create(options.backend).devices[0], spell(precision, roles)]
    if options.lowering is not Lowering.NATIVE:
        parts.append(options.lowering.value)
    parts += [f"sm{capability.replace('.', '')}" for capability in options.compiler.compute_capabilities]
    parts += _quantizer_names(options, {precision[role] for role in roles})
    if options.max_length is not None:
        parts.append(f"l{options.max_length}")
    if options.batch_size != 1:
        parts.append(f"b{options.batch_size}")
    return "-".join(parts)


def _quantizer_names(options: BuildOptions, precisions: set[str]) -> list[str]:
    """How weights are rounded, if not to nearest; otherwise whether a text was given."""
    has_text = options.calibration is not None
    found = {options.quantizer.resolve(one, has_text=has_text) for one in precisions & QUANTIZED}
    names = sorted(one.value for one in found - {Quantizer.RTN})
    return names or (["calibrated"] if has_text else [])


def _prepared_id(options: BuildOptions, task: PrepareTask, precision: Precision) -> str:
    """The build that `--stage compile` refers to: the one with these options, or with `auto` the backend's newest."""
    build_id = default_id(options, with_default(task.backend, precision), list(task.bundle.manifest.roles))
    builds = [
        build
        for build in task.bundle.builds()
        if (build.manifest.backend, build.manifest.device) == (task.backend.name, task.device)
    ]
    if AUTO in precision.values() and builds and all(build.manifest.id != build_id for build in builds):
        return builds[-1].manifest.id
    return build_id


def _check_free(options: BuildOptions, bundle: Bundle, build_id: str) -> None:
    if (bundle.path / BUILDS / build_id).exists() and not options.replace:
        raise StorageError(
            f"Build '{build_id}' exists already in {bundle.path}.",
            "Add --replace, or choose another name with --id.",
        )


def _check_backend(made: Build, backend: Backend) -> None:
    if made.manifest.backend != backend.name:
        raise BuildError(
            f"Build '{made.manifest.id}' was prepared for backend '{made.manifest.backend}', not '{backend.name}'.",
            f"Add --backend {made.manifest.backend}, or prepare it again with --replace.",
        )


def _check_id(build_id: str) -> None:
    if not all(c.isalnum() or c in "-_." for c in build_id) or build_id.startswith(".") or not 0 < len(build_id) <= 200:
        raise UsageError(f"--id is '{build_id}'; a build's name has at most 200 letters, digits, '-', '_' and '.'.")
