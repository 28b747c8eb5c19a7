"""`ptgc export`: a checkpoint into a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptgc.cli.console import command_errors, megabytes, print_json, progress, results
from ptgc.cli.options import AsJson
from ptgc.errors import BackendError
from ptgc.spec.bundle import open_bundle
from ptgc.spec.strategy import Strategy

if TYPE_CHECKING:
    from ptgc.exporters.from_checkpoint import ExportOptions


def command(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Local directory, GGUF file, or hub id.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Where the bundle will be.")] = None,
    strategy: Annotated[Strategy, typer.Option(help="How the bundle generates.")] = Strategy.NGRAM,
    num_draft_tokens: Annotated[int | None, typer.Option(help="Most draft tokens of a round; ngram: 15.")] = None,
    max_ngram_size: Annotated[int | None, typer.Option(help="ngram: longest suffix looked up, in tokens; 8.")] = None,
    min_ngram_size: Annotated[int | None, typer.Option(help="ngram: shortest suffix that counts; 2.")] = None,
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
        options = _options(strategy, num_draft_tokens, max_ngram_size, min_ngram_size)
        if dry_run:
            _show_plan(model, options, revision, trust_remote_code, as_json)
            return
        from ptgc.exporters import export_checkpoint

        assert output is not None
        with progress() as step:
            path = export_checkpoint(
                model,
                output,
                options,
                revision=revision,
                trust_remote_code=trust_remote_code,
                force=force,
                progress=step,
            )
        size = sum(entry.size for entry in open_bundle(path).manifest.files)
        if as_json:
            print_json({"bundle": str(path), "bytes": size, "strategy": strategy.value})
        else:
            results.print(f"{path}: {megabytes(size)}, strategy {strategy.value}", soft_wrap=True, markup=False)


def _options(
    strategy: Strategy, num_draft_tokens: int | None, max_ngram_size: int | None, min_ngram_size: int | None
) -> ExportOptions:
    try:
        from ptgc.exporters.from_checkpoint import ExportOptions
    except ImportError as error:
        raise BackendError(
            f"Exporting needs PyTorch and transformers: {error}.", 'Install them: pip install "ptgc[export]"'
        ) from error
    options = ExportOptions(strategy, num_draft_tokens, max_ngram_size, min_ngram_size)
    options.plan()
    return options


def _show_plan(model: str, options: ExportOptions, revision: str | None, trust: bool, as_json: bool) -> None:
    from ptgc.exporters.checkpoint.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(model, revision=revision, trust_remote_code=trust)
    config = checkpoint.config.get_text_config()
    found: dict[str, Any] = {
        "family": config.model_type,
        "layers": config.num_hidden_layers,
        "vocab_size": config.vocab_size,
        "context_length": config.max_position_embeddings,
        "weight_bytes": checkpoint.weight_bytes,
        "strategy": options.strategy.value,
        "plan": options.plan().to_json(),
    }
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        results.print(f"{name}: {value}", markup=False)
