"""Exporting what a path or hub id names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from ptgc.errors import BundleError, ExportError
from ptgc.exporters.bundle_writer import Progress, export, made_by
from ptgc.exporters.checkpoint.checkpoint import Checkpoint, open_checkpoint
from ptgc.exporters.checkpoint.task import Task
from ptgc.exporters.export_options import ExportOptions
from ptgc.exporters.own_code import check_causal
from ptgc.spec.bundle import open_bundle
from ptgc.spec.manifest import dumps
from ptgc.spec.output import TakenError, check_bundle_output
from ptgc.spec.strategy import Loop, Strategy

_DEFAULTS = {
    Task.CAUSAL_LM: Strategy.NGRAM,
    Task.SEQ2SEQ_LM: Strategy.NGRAM,
    Task.MASKED_LM: Strategy.MASKED_DIFFUSION,
}


@dataclass(frozen=True)
class Sources:
    """The checkpoints of one export, opened but not loaded."""

    model: Checkpoint
    """What is exported."""
    strategy: Strategy
    """How the bundle generates."""
    drafter: Checkpoint | None = None
    """draft-model: what drafts."""


def open_sources(
    model: str | Path, options: ExportOptions, *, revision: str | None = None, trust_remote_code: bool = False
) -> Sources:
    """Open every checkpoint of an export and check that strategy and options fit them.

    Raises:
        UsageError: Options of another strategy, or values out of range; all of them are named.
        CheckpointError: See `open_checkpoint`.
        ExportError: A strategy that this kind of model cannot have.
    """
    options.check(options.strategy)  # before anything is downloaded
    checkpoint = open_checkpoint(model, revision=revision, trust_remote_code=trust_remote_code)
    strategy = options.strategy or _DEFAULTS[checkpoint.task]
    options.check(strategy)
    fitting = {Loop.CANVAS if checkpoint.task is Task.MASKED_LM else Loop.SPECULATIVE}
    if checkpoint.has_own_code and checkpoint.task is Task.CAUSAL_LM:
        # Diffusion models come as AutoModelForCausalLM: transformers has no better name for them.
        fitting.add(Loop.CANVAS)
    if strategy.loop not in fitting:
        named = ", ".join(one.value for one in Strategy if one.loop in fitting)
        raise ExportError(
            f"'{checkpoint.source}' is a {checkpoint.task.value}; it cannot generate by '{strategy.value}'.",
            f"Choose from: {named}.",
        )
    if options.drafter is None:
        return Sources(checkpoint, strategy)
    drafter = open_checkpoint(options.drafter, trust_remote_code=trust_remote_code)
    if drafter.task is not Task.CAUSAL_LM:
        raise ExportError(
            f"'{drafter.source}' is a {drafter.task.value}; a drafter is a {Task.CAUSAL_LM.value}.",
            "Choose a smaller model of the target's family.",
        )
    return Sources(checkpoint, strategy, drafter)


def export_checkpoint(
    model: str | Path,
    output: str | Path,
    options: ExportOptions | None = None,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    force: bool = False,
    progress: Progress = lambda _: None,
    note: Progress = lambda _: None,
) -> Path:
    """Export a local directory, GGUF file or hub id into a bundle.

    The same export again gives the same bytes: where it is there already, nothing is written.

    Raises:
        PtgcError: See `open_sources` and `export`.
    """
    options = options or ExportOptions()
    named = (model, options.drafter)
    taken: TakenError | None = None
    try:
        check_bundle_output(output, force=force, sources=tuple(Path(one) for one in named if one is not None))
    except TakenError as error:
        taken = error
    progress("Opening the checkpoint")
    sources = open_sources(model, options, revision=revision, trust_remote_code=trust_remote_code)
    if taken is not None:
        if not _is_export_of(Path(output), _provenance(sources, options)):
            raise taken
        note(f"{output} is this export already; nothing was written. Add --force to write it again.")
        return Path(output)
    progress("Loading weights")
    tokenizer = sources.model.load_tokenizer(note)
    mask_token_id = getattr(tokenizer, "mask_token_id", None)
    plan = options.plan(sources.strategy, mask_token_id)
    modules = _modules(sources, note)
    if sources.strategy.loop is Loop.SPECULATIVE and sources.model.has_own_code:
        check_causal(modules["target"])
    return export(
        modules,
        plan,
        output,
        tokenizer=tokenizer,
        drafter_tokenizer=sources.drafter.load_tokenizer() if sources.drafter else None,
        provenance=_provenance(sources, options),
        force=force,
        progress=progress,
        note=note,
    )


def _is_export_of(bundle: Path, provenance: dict[str, Any]) -> bool:
    """Whether a whole bundle was made from the same files with the same options and software."""
    try:
        opened = open_bundle(bundle)
        opened.verify()
    except BundleError:
        return False
    known = {name: value for name, value in opened.manifest.provenance.items() if name != "notes"}
    return bool(known == json.loads(dumps(made_by() | provenance)))


def _modules(sources: Sources, note: Progress) -> dict[str, nn.Module]:
    """The PyTorch modules by role."""
    module = sources.model.load_model(note=note)
    if sources.strategy.loop is Loop.CANVAS:
        return {"denoiser": module}
    roles: dict[str, nn.Module] = {"target": module}
    if sources.model.task is Task.SEQ2SEQ_LM:
        roles["encoder"] = module
    if sources.drafter is not None:
        roles["drafter"] = sources.drafter.load_model(note=note)
    return roles


def _provenance(sources: Sources, options: ExportOptions) -> dict[str, Any]:
    """Where the weights came from, without a path of the machine that exported them."""
    arguments = options.given() | {"strategy": sources.strategy.value}
    found = _origin(sources.model)
    if sources.drafter is not None:
        found["drafter"] = _origin(sources.drafter)
        arguments["drafter"] = found["drafter"]["source"]
    return found | {"arguments": arguments}


def _origin(checkpoint: Checkpoint) -> dict[str, Any]:
    local = Path(checkpoint.source).exists()
    quantization = {} if checkpoint.packed is None else {"quantization": checkpoint.packed.to_json()}
    return {
        "source": Path(checkpoint.source).resolve().name if local else checkpoint.source,
        "revision": checkpoint.revision,
        "files": checkpoint.hashes(),
        **quantization,
    }
