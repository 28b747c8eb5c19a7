"""Writing a bundle: traced roles, plan, tokenizer and reference texts into one directory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

import ptgc
from ptgc.errors import ExportError, StorageError
from ptgc.exporters.reference_texts import eos_token_ids, reference_texts
from ptgc.exporters.target import TracedTarget, trace_target
from ptgc.graphs.storage import save
from ptgc.spec.bundle import list_files, write_manifest
from ptgc.spec.manifest import Manifest, ModelFacts, Role
from ptgc.spec.plan import DecodePlan
from ptgc.spec.staging import staged_directory

Progress = Callable[[str], None]
"""Called with what is being done, for whoever watches."""

PACKAGES = ("torch", "transformers", "onnx-ir", "onnxscript")


def export(
    roles: Mapping[str, PreTrainedModel],
    plan: DecodePlan,
    output: str | Path,
    *,
    tokenizer: Any | None = None,
    provenance: Mapping[str, Any] | None = None,
    force: bool = False,
    progress: Progress = lambda _: None,
) -> Path:
    """Trace modules into standard ONNX graphs and write a bundle.

    Args:
        roles: `{"target": causal_lm}`, a transformers causal LM in eval mode.
        plan: The loop and its policies.
        output: Where the bundle will be; appears whole or not at all.
        tokenizer: A fast transformers tokenizer; without one the bundle takes token ids only.
        provenance: What the manifest should say of where the weights came from.
        force: Replace what is at `output`.
        progress: Called with each step.

    Returns:
        The bundle's directory.

    Raises:
        ExportError: A role that no loop of the plan has, or a model that cannot be traced.
        StorageError: `output` exists and `force` is not set, or it cannot be written.
    """
    unknown = sorted(set(roles) - {"target"})
    if unknown or "target" not in roles:
        raise ExportError(f"Strategy '{plan.strategy.value}' has the role 'target'; given: {sorted(roles)}.")
    final = Path(output)
    refuse_existing(final, force=force)
    model = roles["target"]
    with staged_directory(final, replace=force) as folder:
        progress("Writing reference texts with PyTorch")
        reference = _write_reference(folder, model, tokenizer)
        progress("Tracing the target")
        traced = trace_target(model)
        progress("Writing graphs and weights")
        role = _write_target(folder, traced)
        tokenizer_folder = _write_tokenizer(folder, tokenizer)
        features = {"speculative-loop", "kv-cache-full"}
        if any(state.window is not None for state in traced.states):
            features.add("sliding-window-mask")
        manifest = Manifest(
            plan=plan,
            model=_facts(model, traced),
            roles={"target": role},
            files=list_files(folder),
            tokenizer=tokenizer_folder,
            reference=reference,
            features=tuple(features),
            provenance={"ptgc": ptgc.__version__, "packages": _packages()} | dict(provenance or {}),
        )
        write_manifest(folder, manifest)
    return final


def refuse_existing(final: Path, *, force: bool) -> None:
    """Say early that a path is taken, before minutes are spent.

    Raises:
        StorageError: It exists, and `force` is not set or it is no bundle.
    """
    if not final.exists():
        return
    if not force:
        raise StorageError(f"{final} exists already.", "Choose another name with -o, or add --force to replace it.")
    if not (final / "manifest.json").is_file() and not (final.is_dir() and not any(final.iterdir())):
        raise StorageError(f"{final} is no bundle; it will not be replaced.", "Choose another name with -o.")


def _write_reference(folder: Path, model: PreTrainedModel, tokenizer: Any | None) -> str:
    path = folder / "reference" / "target.json"
    path.parent.mkdir()
    path.write_text(json.dumps(reference_texts(model, tokenizer), ensure_ascii=False) + "\n", encoding="utf-8")
    return path.relative_to(folder).as_posix()


def _write_target(folder: Path, traced: TracedTarget) -> Role:
    graphs = folder / "graphs"
    graphs.mkdir()
    save(traced.model, graphs, "target")
    save(traced.commit_model, graphs, "target_commit")
    return Role(
        graph="graphs/target.onnx",
        commit_graph="graphs/target_commit.onnx",
        inputs=traced.inputs,
        outputs=traced.outputs,
        states=traced.states,
    )


def _write_tokenizer(folder: Path, tokenizer: Any | None) -> str | None:
    if tokenizer is None:
        return None
    if not getattr(tokenizer, "is_fast", False):
        raise ExportError(
            f"{type(tokenizer).__name__} has no fast form (tokenizer.json), which the runtime reads.",
            "Convert it with transformers first, or export without a tokenizer and use token ids.",
        )
    tokenizer.save_pretrained(folder / "tokenizer")
    # Again without indentation, which is half of the file.
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer" / "tokenizer.json"), pretty=False)
    return "tokenizer"


def _facts(model: PreTrainedModel, traced: TracedTarget) -> ModelFacts:
    config = model.config.get_text_config()
    bos = getattr(config, "bos_token_id", None)
    vocab_size = int(traced.outputs[0].shape[-1])
    return ModelFacts(
        family=str(config.model_type),
        vocab_size=vocab_size,
        context_length=int(config.max_position_embeddings),
        eos_token_ids=eos_token_ids(model),
        bos_token_id=bos if isinstance(bos, int) and 0 <= bos < vocab_size else None,
    )


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
