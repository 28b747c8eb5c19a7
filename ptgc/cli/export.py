"""`ptgc export`: exports a checkpoint to a bundle."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ptgc.cli.console import command_errors, megabytes, need_torch, notes, print_json, progress, results
from ptgc.cli.options import AsJson
from ptgc.errors import UsageError
from ptgc.spec.bundle import open_bundle
from ptgc.spec.options import checkpoints_of
from ptgc.spec.output import TakenError, check_bundle_output
from ptgc.spec.strategies.choice import possible_choices


def command(
    context: typer.Context,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Local directory, GGUF file, or hub id.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Directory of the new bundle.")] = None,
    strategy: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="How the bundle generates text; by default what suits the model."),
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Allow code that comes with the checkpoint to run.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be exported, and write nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing bundle of that name.")] = False,
    as_json: AsJson = False,
    **values: Any,
) -> None:
    """Trace a checkpoint into static, standard ONNX graphs."""
    options = {name: value for name, value in values.items() if value is not None}
    with command_errors(as_json):
        choices = possible_choices(strategy, options | _unknown([model, *context.args]))
        if output is None and not dry_run:
            raise UsageError("Say where the bundle will be: -o BUNDLE.")
        if output is not None and not dry_run:
            named = [model] + [one for choice in choices for one in checkpoints_of(choice.options).values()]
            with suppress(TakenError):  # the existing bundle may already be this export
                check_bundle_output(output, force=force, sources=tuple(map(Path, named)))
        need_torch("Exporting")
        asked = _Asked(model, strategy, options, revision, trust_remote_code)
        if dry_run:
            _show_plan(asked, as_json)
            return
        assert output is not None
        _export(asked, output, force=force)
        _show_bundle(output, as_json)


@dataclass(frozen=True)
class _Asked:
    """What the user asked to export."""

    model: str
    strategy: str | None
    options: dict[str, Any]
    revision: str | None
    trust_remote_code: bool


def _unknown(arguments: list[str]) -> dict[str, Any]:
    """The unknown options on the command line behind MODEL.

    Raises:
        UsageError: There is a further argument that is not an option.
    """
    flags = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
    if not flags and len(arguments) > 1:
        raise UsageError(f"Give one MODEL; there are more: {', '.join(arguments)}.")
    return {flag.removeprefix("--").replace("-", "_"): None for flag in flags}


def _export(asked: _Asked, output: Path, *, force: bool) -> None:
    from ptgc.exporters import export_checkpoint

    with progress() as step:
        export_checkpoint(
            asked.model,
            output,
            asked.options,
            strategy=asked.strategy,
            revision=asked.revision,
            trust_remote_code=asked.trust_remote_code,
            force=force,
            progress=step,
            note=_print_note,
        )


def _print_note(text: str) -> None:
    notes.print(f"Note: {text}", markup=False, soft_wrap=True)


def _show_bundle(path: Path, as_json: bool) -> None:
    manifest = open_bundle(path).manifest
    size, strategy = sum(entry.size for entry in manifest.files), manifest.plan.strategy
    if as_json:
        print_json({"bundle": str(path), "bytes": size, "strategy": strategy})
    else:
        results.print(f"{path}: {megabytes(size)}, strategy {strategy}", soft_wrap=True, markup=False)


def _show_plan(asked: _Asked, as_json: bool) -> None:
    from ptgc.exporters.from_checkpoint import open_sources
    from ptgc.exporters.strategies.base import exporter_of
    from ptgc.exporters.tracing.rotary_frequencies import scaled_length

    sources = open_sources(
        asked.model,
        asked.options,
        strategy=asked.strategy,
        revision=asked.revision,
        trust_remote_code=asked.trust_remote_code,
    )
    with progress() as step:
        settled = exporter_of(sources.strategy).settle(sources, step, _print_note)
    config = sources.model.config.get_text_config()
    found: dict[str, Any] = {
        "family": config.model_type,
        "layers": config.num_hidden_layers,
        "vocab_size": config.vocab_size,
        "context_length": scaled_length(config),
        "weight_bytes": sources.model.weight_bytes,
        "strategy": sources.strategy.name,
        "plan": settled.plan(sources.model.load_tokenizer()).to_json(),
    }
    found |= {f"{name}_weight_bytes": one.weight_bytes for name, one in sources.others.items()}
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        results.print(f"{name}: {value}", markup=False)
