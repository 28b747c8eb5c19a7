"""Exporting the model that a path or hub id names."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Any

from ptgc.errors import BundleError, ExportError, UsageError
from ptgc.exporters.bundle_writer import Progress, export, made_by
from ptgc.exporters.checkpoint.checkpoint import Checkpoint, open_checkpoint
from ptgc.exporters.strategies.base import Sources, exporter_of
from ptgc.spec.bundle import open_bundle
from ptgc.spec.layers import LayerSets
from ptgc.spec.manifest import dumps
from ptgc.spec.options import checkpoints_of, values_of
from ptgc.spec.output import TakenError, check_bundle_output
from ptgc.spec.strategies import find_strategy, strategy_names
from ptgc.spec.strategies.choice import DEFAULTS, possible_choices
from ptgc.spec.tree import TreeSpec


def open_sources(
    model: str | Path,
    options: object | None = None,
    *,
    strategy: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Sources:
    """Open every checkpoint of an export and check that strategy and options fit them.

    Args:
        model: What is exported.
        options: An object of a strategy's options, or a mapping of some of them by name.
        strategy: How the bundle generates; by default that of the options, or the default for this checkpoint.
        revision: Branch, tag or commit of a hub id.
        trust_remote_code: Allow code that comes with a checkpoint to run.

    Raises:
        UsageError: Options of another strategy, or values out of range; all of them are named.
        CheckpointError: See `open_checkpoint`.
        ExportError: A strategy that this kind of model cannot have.
    """
    choices = possible_choices(strategy, options)  # before anything is downloaded
    exporters = [exporter_of(choice.strategy) for choice in choices]
    checkpoint = open_checkpoint(model, revision=revision, trust_remote_code=trust_remote_code)
    for choice, exporter in zip(choices, exporters, strict=True):
        if exporter.fits(checkpoint):
            others = exporter.open_others(choice.options, trust_remote_code=trust_remote_code)
            return Sources(checkpoint, choice.strategy, choice.options, others)
    fitting = _fitting(checkpoint)
    if strategy is None and isinstance(options, Mapping):  # no fitting strategy has these options
        possible_choices(next(name for name in DEFAULTS if name in fitting), options)
    raise ExportError(
        f"'{checkpoint.source}' is a {checkpoint.kind}; it cannot generate by '{choices[0].strategy.name}'.",
        f"Choose from: {', '.join(fitting)}.",
    )


def _fitting(checkpoint: Checkpoint) -> list[str]:
    """The strategies that a checkpoint supports; those from broken packages are left out."""
    found = []
    for name in strategy_names():
        with suppress(UsageError, ExportError):
            if exporter_of(find_strategy(name)).fits(checkpoint):
                found.append(name)
    return found


def export_checkpoint(
    model: str | Path,
    output: str | Path,
    options: object | None = None,
    *,
    strategy: str | None = None,
    revision: str | None = None,
    trust_remote_code: bool = False,
    force: bool = False,
    progress: Progress = lambda _: None,
    note: Progress = lambda _: None,
) -> Path:
    """Export a local directory, GGUF file or hub id into a bundle.

    Repeating an export gives the same bytes, so nothing is written if it already exists.

    Args:
        model: What is exported.
        output: Where the bundle will be.
        options: An object of a strategy's options (`NgramOptions(num_draft_tokens=7)`), or a mapping of some of them.
        strategy: How the bundle generates; by default that of the options, or the default for this checkpoint.
        revision: Branch, tag or commit of a hub id.
        trust_remote_code: Allow code that comes with a checkpoint to run.
        force: Replace what is at `output`.
        progress: Called with each step.
        note: Called with what a user should know.

    Raises:
        PtgcError: See `open_sources` and `export`.
    """
    named = [model]
    for choice in possible_choices(strategy, options):
        named += checkpoints_of(choice.options).values()
    taken: TakenError | None = None
    try:
        check_bundle_output(output, force=force, sources=tuple(map(Path, named)))
    except TakenError as error:
        taken = error
    progress("Opening the checkpoint")
    sources = open_sources(model, options, strategy=strategy, revision=revision, trust_remote_code=trust_remote_code)
    if taken is not None:
        if not _is_export_of(Path(output), _provenance(sources)):
            raise taken
        note(f"{output} is this export already; nothing was written. Add --force to write it again.")
        return Path(output)
    progress("Loading weights")
    tokenizer = sources.model.load_tokenizer(note)
    exporter = exporter_of(sources.strategy)
    settled = exporter.settle(sources, progress, note)
    plan = settled.plan(tokenizer)
    return export(
        exporter.modules(settled, note),
        plan,
        output,
        tokenizer=tokenizer,
        drafter_tokenizer=exporter.drafter_tokenizer(sources),
        provenance=_provenance(sources),
        force=force,
        progress=progress,
        note=note,
    )


def _is_export_of(bundle: Path, provenance: dict[str, Any]) -> bool:
    """Whether a path is a complete bundle made from the same files with the same options and software."""
    try:
        opened = open_bundle(bundle)
        opened.verify()
    except BundleError:
        return False
    known = {name: value for name, value in opened.manifest.provenance.items() if name != "notes"}
    return bool(known == json.loads(dumps(made_by() | provenance)))


def _provenance(sources: Sources) -> dict[str, Any]:
    """Where the weights came from, without any path of the exporting machine."""
    values = {name: _json(value) for name, value in values_of(sources.options).items() if value is not None}
    origins = {name: _origin(checkpoint) for name, checkpoint in sources.others.items()}
    named = {name: origin["source"] for name, origin in origins.items()}
    paths = {name: str(value) for name, value in values.items() if isinstance(value, Path)}
    arguments = {"strategy": sources.strategy.name} | values | paths | named
    return _origin(sources.model) | origins | {"arguments": arguments}


def _json(value: Any) -> Any:
    """An option's value as the manifest writes it."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, LayerSets):
        return str(value)
    return value.to_json() if isinstance(value, TreeSpec) else value


def _origin(checkpoint: Checkpoint) -> dict[str, Any]:
    local = Path(checkpoint.source).exists()
    quantization = {} if checkpoint.packed is None else {"quantization": checkpoint.packed.to_json()}
    return {
        "source": Path(checkpoint.source).resolve().name if local else checkpoint.source,
        "revision": checkpoint.revision,
        "files": checkpoint.hashes(),
        **quantization,
    }
