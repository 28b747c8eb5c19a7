"""Writing a bundle: traced roles, plan, tokenizers and reference texts in one directory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import nn

import ptgc
from ptgc.errors import ExportError
from ptgc.exporters.generation_settings import GenerationSettings, generation_settings
from ptgc.exporters.model_facts import context_of, facts_of, source_vocab_size
from ptgc.exporters.references.references import pretrained, reference_of
from ptgc.exporters.roles.base import RoleSource, TracedRole, check_roles, check_weights, trace_role
from ptgc.exporters.roles.draft_model import check_pair
from ptgc.graphs.storage import SavedWeights, save
from ptgc.spec.bundle import MANIFEST, write_manifest
from ptgc.spec.bundle_files import list_files
from ptgc.spec.drafter import drafter_feature
from ptgc.spec.fields import read
from ptgc.spec.generation import GenerationDefaults
from ptgc.spec.json_file import UnreadableError
from ptgc.spec.manifest import Manifest
from ptgc.spec.model_facts import ModelFacts
from ptgc.spec.output import check_bundle_output
from ptgc.spec.plan import DecodePlan
from ptgc.spec.role import Role
from ptgc.spec.staging import locked, staged_directory
from ptgc.spec.vocabulary import vocabulary_sha256

Progress = Callable[[str], None]
"""Called with a text that describes the current step."""

PACKAGES = ("torch", "transformers", "onnx-ir", "onnxscript")


def export(
    roles: Mapping[str, nn.Module],
    plan: DecodePlan,
    output: str | Path,
    *,
    tokenizer: Any | None = None,
    drafter_tokenizer: Any | None = None,
    model_facts: ModelFacts | None = None,
    provenance: Mapping[str, Any] | None = None,
    force: bool = False,
    progress: Progress = lambda _: None,
    note: Progress = lambda _: None,
) -> Path:
    """Trace modules into standard ONNX graphs and write a bundle.

    Args:
        roles: The modules by role, in eval mode: transformers models for `target` (and `drafter`, `encoder`), or for
            other loops any modules with the right ports, and as `policy` a canvas's policy of one's own
            (docs/adding-a-model.md).
        plan: The loop and its policies.
        output: Path of the bundle; it appears complete or not at all.
        tokenizer: A fast transformers tokenizer; without one the bundle takes token ids only.
        drafter_tokenizer: The drafter's own tokenizer.
        model_facts: What the loops must know of the model; by default read from its `config`.
        provenance: Where the weights came from, for the manifest.
        force: Replace what is at `output`.
        progress: Called with each step.
        note: Called with remarks about a combination that works.

    Returns:
        The bundle's directory.

    Raises:
        ExportError: The plan lacks a role, weights are NaN or infinite, or a model cannot be traced.
        StorageError: `output` exists and `force` is not set, or it cannot be written.
    """
    order = check_roles(plan, tuple(roles))
    named = {"strategy": plan.strategy, "guarantee": plan.guarantee.value}
    _check_readable(lambda: read(DecodePlan, plan.to_json() | named, "plan"))
    final = check_bundle_output(output, force=force)
    for name, module in roles.items():
        check_weights(name, module)
    settings = _generation(roles)
    notes = [*_check_drafter(roles, plan, tokenizer, drafter_tokenizer), *settings.notes]
    for text in notes:
        note(text)
    with locked(final / MANIFEST, progress), staged_directory(final, replace=force) as folder:
        progress("Writing reference texts with PyTorch")
        main = "target" if "target" in order else order[-1]
        reference = _write_reference(folder, main, reference_of(roles, plan, tokenizer))
        traced = _write_roles(folder, roles, order, plan, progress)
        facts = model_facts or facts_of(roles[main], _vocab_size(traced[main]))
        if "encoder" in roles and facts.source_vocab_size is None:
            facts = replace(facts, source_vocab_size=source_vocab_size(roles["encoder"]))
        if tokenizer is not None:
            facts = replace(facts, vocabulary_sha256=vocabulary_sha256(tokenizer.get_vocab()))
        tokenizer_folder = _write_tokenizer(folder, tokenizer, "tokenizer")
        other = drafter_tokenizer if plan.drafter.reencodes else None
        drafter_folder = _write_tokenizer(folder, other, "drafter_tokenizer")
        made_of = made_by() | ({"notes": notes} if notes else {})
        manifest = Manifest(
            plan=plan,
            model=facts,
            roles={name: _role(name, made, roles[name], facts) for name, made in traced.items()},
            files=list_files(folder),
            tokenizer=tokenizer_folder,
            drafter_tokenizer=drafter_folder,
            reference=reference,
            features=_features(plan, traced),
            provenance=made_of | dict(provenance or {}),
            generation=settings.defaults,
        )
        _check_readable(lambda: Manifest.from_json(manifest.to_json()))
        write_manifest(folder, manifest)
    return Path(output)


def _check_readable(reading: Callable[[], object]) -> None:
    """Refuse to write a bundle that no runtime would read.

    Raises:
        ExportError: Naming every value out of range.
    """
    try:
        reading()
    except UnreadableError as error:
        raise ExportError(f"No runtime would read this bundle: it {error}.", "Give values in range.") from error


def _check_drafter(
    roles: Mapping[str, nn.Module], plan: DecodePlan, tokenizer: Any | None, drafter_tokenizer: Any | None
) -> list[str]:
    if "drafter" not in roles or plan.drafter.is_part_of_target or plan.drafter.taps:
        return []  # or it has the target's vocabulary by its making
    target, drafter = (pretrained(roles, name) for name in ("target", "drafter"))
    return check_pair(target, drafter, (tokenizer, drafter_tokenizer), reencodes=plan.drafter.reencodes)


def _generation(roles: Mapping[str, nn.Module]) -> GenerationSettings:
    """The settings of the model that writes token by token; other loops choose tokens by their own policies."""
    if "target" not in roles:
        return GenerationSettings(GenerationDefaults(), ())
    return generation_settings(pretrained(roles, "target"))


def _write_reference(folder: Path, name: str, reference: Mapping[str, Any]) -> str:
    path = folder / "reference" / f"{name}.json"
    path.parent.mkdir()
    path.write_text(json.dumps(reference, ensure_ascii=False) + "\n", encoding="utf-8")
    return path.relative_to(folder).as_posix()


def _write_roles(
    folder: Path, roles: Mapping[str, nn.Module], order: Sequence[str], plan: DecodePlan, progress: Progress
) -> dict[str, TracedRole]:
    """Trace every role and write its graphs; weights that roles share are stored once."""
    graphs = folder / "graphs"
    graphs.mkdir()
    saved, traced = SavedWeights(), dict[str, TracedRole]()
    for name in order:
        progress(f"Tracing the {name}")
        made = trace_role(RoleSource(name, roles[name], plan.learned, roles, traced))
        progress(f"Writing graph and weights of the {name}")
        save(made.model, graphs, name, saved)
        traced[name] = made
    return traced


def _role(name: str, made: TracedRole, module: nn.Module, facts: ModelFacts) -> Role:
    context = context_of(module)
    return made.role(f"graphs/{name}.onnx", None if context == facts.context_length else context)


def _vocab_size(role: TracedRole) -> int | None:
    """Size of the logits' last dimension, which may be padded; None if the role does not output logits."""
    last = role.outputs[0].shape[-1]
    return last if isinstance(last, int) else None


def _features(plan: DecodePlan, traced: Mapping[str, TracedRole]) -> tuple[str, ...]:
    states = [state for made in traced.values() for state in made.states]
    found = {f"{plan.loop.value}-loop": True}
    found |= {"kv-cache-full": bool(states), "sliding-window-cache": any(s.window is not None for s in states)}
    found |= {drafter_feature(one.kind): plan.drafts for one in (plan.drafter, *plan.drafter.parts)}
    found["encoder"] = "encoder" in traced
    found["block-cache"] = plan.canvas is not None and plan.canvas.keeps_blocks
    return tuple(name for name, there in found.items() if there)


def _write_tokenizer(folder: Path, tokenizer: Any | None, name: str) -> str | None:
    if tokenizer is None:
        return None
    if not getattr(tokenizer, "is_fast", False):
        raise ExportError(
            f"{type(tokenizer).__name__} has no fast form (tokenizer.json), which the runtime reads.",
            "Convert it with transformers first, or export without a tokenizer and use token ids.",
        )
    tokenizer.save_pretrained(folder / name)
    # Saved again without indentation, which makes up half of the file.
    tokenizer.backend_tokenizer.save(str(folder / name / "tokenizer.json"), pretty=False)
    return name


def made_by() -> dict[str, Any]:
    """Versions of the software, for the manifest."""
    return {"ptgc": ptgc.__version__, "packages": _packages()}


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
