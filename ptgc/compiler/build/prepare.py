"""The first stage of a build: every role lowered and quantised, on any machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

import onnx_ir as ir

import ptgc
from ptgc.compiler.backends.base import Backend, Preparation, Progress
from ptgc.compiler.build.profiles import shape_plan
from ptgc.compiler.precision.precision import QUANTIZED, Precision, of_role, parts_of, spell
from ptgc.compiler.precision.quantization.quantizer import Quantizer
from ptgc.errors import BuildError
from ptgc.graphs.storage import SavedWeights, load, save
from ptgc.spec.build_manifest import BuildManifest
from ptgc.spec.bundle import Build, Bundle, write_build_manifest
from ptgc.spec.bundle_files import list_files
from ptgc.spec.fitting import shape_problems
from ptgc.spec.lowering import Lowering
from ptgc.spec.role import Role
from ptgc.spec.shapes import ShapePlan
from ptgc.texts.sample_text import SampleText

_HEAVY = (
    *("MatMul", "Gemm", "Conv", "MatMulNBits", "BlockProduct", "MoE", "QMoE"),
    *("Attention", "CachedAttention", "TensorScatter", "GatherBlockQuantized", "BlockGather"),
)
_NO_REASONS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class PrepareTask:
    """What to prepare, and how."""

    bundle: Bundle
    """The bundle."""
    backend: Backend
    """The engine library to prepare for."""
    device: str
    """The kind of device to prepare for."""
    max_length: int | None = None
    """Most tokens of one sequence (prompt and text); None takes 1024 or the model's context."""
    batch_size: int = 1
    """Sequences that are decoded together."""
    samples: Mapping[str, SampleText] = field(default_factory=dict)
    """Text to quantise with, by role."""
    lowering: Lowering = Lowering.NATIVE
    """Which operators prepared graphs may use."""
    quantizer: Quantizer = Quantizer.AUTO
    """How weights are to be rounded, as requested."""

    def shapes(self) -> ShapePlan:
        """The shapes that the build may run.

        Raises:
            BuildError: A number is out of range.
        """
        manifest = self.bundle.manifest
        shapes = shape_plan(
            manifest.plan,
            manifest.model,
            self.max_length,
            self.batch_size,
            pays_for_capacity=self.backend.pays_for_capacity(manifest.roles.values(), self.batch_size),
            roles=manifest.roles,
        )
        _check_fits(self, shapes, manifest.roles, "Change --max-length.")
        return shapes


def _check_fits(task: PrepareTask, shapes: ShapePlan, roles: Mapping[str, Role], action: str) -> None:
    """Refuse a build that no runtime would load.

    Raises:
        BuildError: Shapes and roles do not fit together.
    """
    manifest = task.bundle.manifest
    problems = shape_problems(manifest.plan, manifest.model, shapes, roles, manifest.roles)
    if problems:
        raise BuildError(f"No runtime would take this build: {'; '.join(problems)}.", action)


def prepare(
    task: PrepareTask,
    precision: Precision,
    build_id: str,
    folder: Path,
    progress: Progress,
    reasons: Mapping[str, str] = _NO_REASONS,
) -> None:
    """Write the prepared graph of every role, and the build.json.

    Args:
        task: What to prepare, and how.
        precision: The precision of every role, and of parts that differ.
        build_id: Name of the build.
        folder: An empty folder.
        progress: Called with each step.
        reasons: Why each role has its precision, for the build's provenance.

    Raises:
        BuildError: The model cannot have these sizes or this precision.
    """
    bundle, backend, shapes = task.bundle, task.backend, task.shapes()
    roles, engine_options, saved = {}, {}, SavedWeights()
    operators: dict[str, str] = {}
    half_cache = QUANTIZED.issuperset(precision.values())
    for name, role in bundle.manifest.roles.items():
        progress(f"Preparing {name} ({spell(of_role(precision, name), [name])})")
        text = task.samples[name].sequences if name in task.samples else ()
        parts = parts_of(precision, name)
        chosen = (task.lowering, task.quantizer, shapes.batch)
        wanted = Preparation(
            bundle.manifest.plan, shapes.roles[name], precision[name], parts, text, *chosen, half_cache
        )
        prepared = backend.prepare(load(bundle.path / role.graph), role, wanted)
        operators[f"operators.{name}"] = operators_of(prepared.model)
        save(prepared.model, folder, name, saved)
        roles[name] = replace(prepared.role, graph=f"{name}.onnx")
        engine_options[name] = prepared.engine_options
    _check_fits(task, shapes, roles, "Choose one precision for roles that share a cache or hidden states.")
    files = list_files(folder)
    manifest = BuildManifest(
        id=build_id,
        backend=backend.name,
        device=task.device,
        precision=dict(precision),
        lowering=task.lowering,
        shapes=shapes,
        roles=roles,
        files=files,
        bundle_sha256=bundle.sha256,
        sequence=_next_sequence(bundle),
        weight_bytes=sum(entry.size for entry in files if entry.path.endswith(".data")),
        engine_options=engine_options,
        min_onnxruntime=backend.min_onnxruntime,
        provenance=_provenance(task, precision) | operators | _named(reasons),
    )
    write_build_manifest(folder, manifest)


def operators_of(model: ir.Model) -> str:
    """How often a prepared graph has each operator that reads weights or caches, the most frequent first."""
    counts = Counter(node.op_type for node in model.graph if node.op_type in _HEAVY)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common())


def adopt(bundle: Bundle, prepared: Build, build_id: str, folder: Path, reasons: Mapping[str, str]) -> None:
    """Move a build that was prepared under another name, where it is no longer needed, into a folder."""
    for entry in prepared.manifest.files:
        (folder / entry.path).parent.mkdir(parents=True, exist_ok=True)
        (prepared.path / entry.path).rename(folder / entry.path)
    provenance = prepared.manifest.provenance | _named(reasons)
    manifest = replace(prepared.manifest, id=build_id, sequence=_next_sequence(bundle), provenance=provenance)
    write_build_manifest(folder, manifest)


def _named(reasons: Mapping[str, str]) -> dict[str, str]:
    return {f"precision.{role}": reason for role, reason in reasons.items()}


def _next_sequence(bundle: Bundle) -> int:
    """The number of the next build."""
    return max((made.manifest.sequence for made in bundle.builds()), default=-1) + 1


def _provenance(task: PrepareTask, precision: Precision) -> dict[str, str]:
    """What prepared the build. The version of an ahead-of-time compiler is added when it compiles."""
    made_by = {"ptgc": ptgc.__version__}
    for role in task.bundle.manifest.roles:
        if not QUANTIZED.isdisjoint(of_role(precision, role).values()):
            quantizer = task.quantizer.resolve(precision[role], has_text=role in task.samples)
            made_by[f"quantizer.{role}"] = quantizer.value
    for role, sample in task.samples.items():
        made_by[f"calibration.{role}"] = f"{sample.num_tokens} tokens of sha256 {sample.sha256}"
    return made_by if task.backend.compiles_ahead else made_by | {"backend_version": task.backend.version()}
