"""`ptgc export`: a checkpoint into a bundle."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptgc.cli.console import command_errors, megabytes, need_torch, notes, print_json, progress, results
from ptgc.cli.options import AsJson
from ptgc.spec.acceptance import AcceptanceRule
from ptgc.spec.bundle import open_bundle
from ptgc.spec.output import TakenError, check_bundle_output
from ptgc.spec.strategy import DrafterVocabulary, Strategy

if TYPE_CHECKING:
    from ptgc.exporters.export_options import ExportOptions


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Local directory, GGUF file, or hub id.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Where the bundle will be.")] = None,
    strategy: Annotated[
        Strategy | None,
        typer.Option(help="How the bundle generates; by default what the model is for: ngram, masked-diffusion."),
    ] = None,
    drafter: Annotated[
        str | None, typer.Option(metavar="MODEL", help="draft-model: directory, GGUF file or hub id of the drafter.")
    ] = None,
    num_draft_tokens: Annotated[
        int | None, typer.Option(help="Most draft tokens of a round; ngram: 15, draft-model: 5.")
    ] = None,
    max_ngram_size: Annotated[int | None, typer.Option(help="ngram: longest suffix looked up, in tokens; 8.")] = None,
    min_ngram_size: Annotated[int | None, typer.Option(help="ngram: shortest suffix that counts; 1.")] = None,
    acceptance: Annotated[
        AcceptanceRule | None,
        typer.Option(help="draft-model, when sampling: match keeps plain decoding's text, speculative more drafts."),
    ] = None,
    drafter_vocabulary: Annotated[
        DrafterVocabulary | None,
        typer.Option(help="draft-model: whether both models have the same token ids, or drafts go through text."),
    ] = None,
    num_steps: Annotated[int | None, typer.Option(help="masked-diffusion: rounds that fill a canvas; 16.")] = None,
    threshold: Annotated[
        float | None, typer.Option(help="masked-diffusion: a round fills all of more confidence than this, 0 to 1.")
    ] = None,
    block_length: Annotated[
        int | None, typer.Option(help="masked-diffusion: positions filled before the next ones; 0 for all at once.")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Let code that comes with the checkpoint run.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be exported, and write nothing.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a bundle of that name.")] = False,
    as_json: AsJson = False,
) -> None:
    """Trace a checkpoint into static, standard ONNX graphs."""
    if output is None and not dry_run:
        raise typer.BadParameter("Say where the bundle will be.", param_hint="-o")
    with command_errors(as_json):
        if output is not None and not dry_run:
            named = (model, drafter)
            with suppress(TakenError):  # it may be this export
                check_bundle_output(output, force=force, sources=tuple(Path(one) for one in named if one is not None))
        need_torch("Exporting")
        from ptgc.exporters.export_options import ExportOptions

        options = ExportOptions(
            strategy=strategy,
            drafter=drafter,
            num_draft_tokens=num_draft_tokens,
            max_ngram_size=max_ngram_size,
            min_ngram_size=min_ngram_size,
            acceptance=acceptance,
            drafter_vocabulary=drafter_vocabulary,
            num_steps=num_steps,
            threshold=threshold,
            block_length=block_length,
        )
        if dry_run:
            _show_plan(model, options, revision, trust_remote_code, as_json)
            return
        assert output is not None
        _export(model, output, options, revision, trust=trust_remote_code, force=force)
        _show_bundle(output, as_json)


def _export(
    model: str, output: Path, options: ExportOptions, revision: str | None, *, trust: bool, force: bool
) -> None:
    from ptgc.exporters import export_checkpoint

    with progress() as step:
        export_checkpoint(
            model,
            output,
            options,
            revision=revision,
            trust_remote_code=trust,
            force=force,
            progress=step,
            note=lambda text: notes.print(f"Note: {text}", markup=False, soft_wrap=True),
        )


def _show_bundle(path: Path, as_json: bool) -> None:
    manifest = open_bundle(path).manifest
    size, strategy = sum(entry.size for entry in manifest.files), manifest.plan.strategy.value
    if as_json:
        print_json({"bundle": str(path), "bytes": size, "strategy": strategy})
    else:
        results.print(f"{path}: {megabytes(size)}, strategy {strategy}", soft_wrap=True, markup=False)


def _show_plan(model: str, options: ExportOptions, revision: str | None, trust: bool, as_json: bool) -> None:
    from ptgc.exporters.from_checkpoint import open_sources
    from ptgc.exporters.tracing.rotary_frequencies import scaled_length

    sources = open_sources(model, options, revision=revision, trust_remote_code=trust)
    config = sources.model.config.get_text_config()
    mask_token_id = getattr(sources.model.load_tokenizer(), "mask_token_id", None)
    found: dict[str, Any] = {
        "family": config.model_type,
        "layers": config.num_hidden_layers,
        "vocab_size": config.vocab_size,
        "context_length": scaled_length(config),
        "weight_bytes": sources.model.weight_bytes,
        "strategy": sources.strategy.value,
        "plan": options.plan(sources.strategy, mask_token_id).to_json(),
    }
    if sources.drafter is not None:
        found["drafter_weight_bytes"] = sources.drafter.weight_bytes
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        results.print(f"{name}: {value}", markup=False)
