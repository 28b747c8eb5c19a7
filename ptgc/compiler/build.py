"""Bundle to build, in two stages: prepare anywhere, compile on the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import ptgc
from ptgc.compiler.backends import BACKENDS
from ptgc.compiler.backends.base import Backend, Preparation, Progress
from ptgc.compiler.compile import CompileOptions, compile_build
from ptgc.compiler.graph_session import writes_alone
from ptgc.compiler.profiles import shape_plan
from ptgc.compiler.stage import Stage
from ptgc.errors import BuildError, StorageError, UsageError
from ptgc.graphs.storage import SavedWeights, load, save
from ptgc.spec.bundle import BUILDS, Build, Bundle, list_files, open_build, open_bundle, write_build_manifest
from ptgc.spec.manifest import BuildManifest
from ptgc.spec.staging import exclusive, staged_directory
from ptgc.texts.sample_text import SampleText, read_sample_text

QUANTIZED = ("int8", "int4")
"""Precisions that round weights to integers."""


@dataclass(frozen=True)
class BuildOptions:
    """What to build."""

    backend: str = "onnxruntime"
    """Engine library."""
    device: str | None = None
    """Kind of device; None takes the backend's first."""
    precision: str = "auto"
    """Weight precision: one for every role, or `role=precision,role=precision`; auto takes the backend's default."""
    max_length: int | None = None
    """Tokens of one sequence, prompt and text; None takes 1024 or the model's context."""
    batch_size: int = 1
    """Sequences that step together."""
    build_id: str | None = None
    """Name of the build; None makes one of the options."""
    replace: bool = False
    """Replace a build of that name."""
    stage: Stage = Stage.ALL
    """How far to go."""
    num_threads: int | None = None
    """Threads that rounds are measured with; None takes the processor's cores."""
    compute_capabilities: tuple[str, ...] = ()
    """GPU generations (`8.6`) to compile engines for ahead of time; empty for the backend's own choice."""
    calibration: Path | None = None
    """A text of the kind that the model is to write, to quantise with; None rounds weights to the nearest."""


def build(path: str | Path, options: BuildOptions | None = None, progress: Progress = lambda _: None) -> Build:
    """Make a build of a bundle.

    Args:
        path: The bundle.
        options: What to build.
        progress: Called with each step.

    Raises:
        BuildError: Options that this backend or model does not have.
        BackendError: The backend is not installed.
        StorageError: The build exists and may not be replaced, or cannot be written.
    """
    options = options or BuildOptions()
    bundle = open_bundle(path)
    if options.stage is not Stage.COMPILE:
        bundle.require_graphs("Building")
    backend = BACKENDS.create(options.backend)
    options = replace(options, device=options.device or backend.devices[0])
    precision = _precision_by_role(options.precision, bundle, backend)
    assert options.device is not None
    for role in bundle.manifest.roles:
        backend.check(options.device, precision[role])
    if options.stage is not Stage.PREPARE or not backend.compiles_ahead:
        backend.version()
        backend.check_capabilities(options.compute_capabilities)
    samples = _calibration(options, bundle, precision)
    build_id = options.build_id or default_id(options, precision)
    _check_id(build_id)
    with exclusive(bundle.path / BUILDS / ".lock") as waited:
        if waited:
            progress("Waited for another build of this bundle")
        if options.stage is not Stage.COMPILE:
            _prepare(bundle, backend, options, precision, samples, build_id, progress)
        made = open_build(bundle.path / BUILDS / build_id)
        _check_backend(made, backend)
        if options.stage is not Stage.PREPARE:
            compiling = CompileOptions(options.num_threads, options.compute_capabilities)
            made = compile_build(made, backend, compiling, progress)
    return made


def default_id(options: BuildOptions, precision: dict[str, str]) -> str:
    """A name that says what the build is: `onnxruntime-cpu-int8`, with `-b3` for a batch of three."""
    named = sorted(set(precision.values()))
    parts = [options.backend, options.device or BACKENDS.create(options.backend).devices[0], "-".join(named)]
    parts += [f"sm{capability.replace('.', '')}" for capability in options.compute_capabilities]
    if options.calibration is not None:
        parts.append("gptq")
    if options.max_length is not None:
        parts.append(f"l{options.max_length}")
    if options.batch_size != 1:
        parts.append(f"b{options.batch_size}")
    return "-".join(parts)


def _calibration(options: BuildOptions, bundle: Bundle, precision: dict[str, str]) -> dict[str, SampleText]:
    """The text to quantise with, for each role that reads texts alone: a drafter may have a tokenizer of its own.

    Raises:
        BuildError: No role would use it.
        UsageError: It is no text, or too short, or the build is prepared already.
    """
    path = options.calibration
    if path is None:
        return {}
    if options.stage is Stage.COMPILE:
        raise UsageError(
            "--calibration is for preparing a build, and --stage compile takes one that is prepared.",
            "Leave --calibration out, or leave --stage out to prepare it again.",
        )
    used = [name for name, role in bundle.manifest.roles.items() if precision[name] in QUANTIZED and writes_alone(role)]
    if not used:
        raise BuildError(
            "--calibration quantises decoder-only models at int8 and int4; this build has "
            + ", ".join(f"{name}={value}" for name, value in precision.items())
            + ".",
            "Leave it out, or choose --precision int4.",
        )
    return {name: read_sample_text(path, bundle, name, options.max_length) for name in used}


def _check_backend(made: Build, backend: Backend) -> None:
    if made.manifest.backend != backend.name:
        raise BuildError(
            f"Build '{made.manifest.id}' was prepared for backend '{made.manifest.backend}', not '{backend.name}'.",
            f"Add --backend {made.manifest.backend}, or prepare it again with --replace.",
        )


def _check_id(build_id: str) -> None:
    if not all(c.isalnum() or c in "-_." for c in build_id) or build_id.startswith("."):
        raise UsageError(f"--id is '{build_id}'; a build's name has letters, digits, '-', '_' and '.' only.")


def _precision_by_role(text: str, bundle: Bundle, backend: Backend) -> dict[str, str]:
    roles = list(bundle.manifest.roles)
    if "=" not in text:
        chosen = backend.precisions[0] if text == "auto" else text
        return dict.fromkeys(roles, chosen)
    found = dict.fromkeys(roles, backend.precisions[0])
    for part in text.split(","):
        role, _, precision = part.partition("=")
        if role not in found or not precision:
            raise BuildError(
                f"--precision has '{part}'; this bundle has the roles: {', '.join(roles)}.",
                "Write ROLE=PRECISION,ROLE=PRECISION, or one precision for all.",
            )
        found[role] = precision
    return found


def _prepare(
    bundle: Bundle,
    backend: Backend,
    options: BuildOptions,
    precision: dict[str, str],
    samples: Mapping[str, SampleText],
    build_id: str,
    progress: Progress,
) -> None:
    final = bundle.path / BUILDS / build_id
    if final.exists() and not options.replace:
        raise StorageError(
            f"Build '{build_id}' exists already in {bundle.path}.",
            "Add --replace, or choose another name with --id.",
        )
    progress("Checking the bundle's files")
    bundle.verify()
    plan = bundle.manifest.plan
    shapes = shape_plan(
        plan,
        bundle.manifest.model,
        options.max_length,
        options.batch_size,
        pays_for_capacity=backend.pays_for_capacity(plan, options.batch_size),
        roles=bundle.manifest.roles,
    )
    sequence = max((made.manifest.sequence for made in bundle.builds()), default=-1) + 1
    assert options.device is not None
    with staged_directory(final, replace=options.replace) as folder:
        roles, engine_options, saved = {}, {}, SavedWeights()
        for name, role in bundle.manifest.roles.items():
            progress(f"Preparing {name} ({precision[name]})")
            task = Preparation(plan, shapes, precision[name], samples[name].sequences if name in samples else ())
            prepared = backend.prepare(load(bundle.path / role.graph), role, task)
            save(prepared.model, folder, name, saved)
            roles[name] = replace(prepared.role, graph=f"{name}.onnx")
            engine_options[name] = prepared.engine_options
        files = list_files(folder)
        manifest = BuildManifest(
            id=build_id,
            backend=backend.name,
            device=options.device,
            precision=precision,
            shapes=shapes,
            roles=roles,
            files=files,
            bundle_sha256=bundle.sha256,
            sequence=sequence,
            weight_bytes=sum(entry.size for entry in files if entry.path.endswith(".data")),
            engine_options=engine_options,
            provenance=_provenance(backend, samples),
        )
        write_build_manifest(folder, manifest)


def _provenance(backend: Backend, samples: Mapping[str, SampleText]) -> dict[str, str]:
    """Engines that are compiled later are stamped with their compiler's version then."""
    made_by = {"ptgc": ptgc.__version__}
    for role, sample in samples.items():
        made_by[f"calibration.{role}"] = f"{sample.num_tokens} tokens of sha256 {sample.sha256}"
    return made_by if backend.compiles_ahead else made_by | {"backend_version": backend.version()}
