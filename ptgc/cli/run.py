"""`ptgc run`: writes text with a bundle."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ptgc.cli.console import command_errors, note_refused, notes, print_json
from ptgc.cli.options import AsJson, BuildId, BundlePath, Datastore, Device, DraftLength, NumThreads
from ptgc.cli.prompt import read_ids, read_object, read_prompt
from ptgc.cli.round_report import check_has_rounds, write_report
from ptgc.spec.output import check_output_file, write_output

if TYPE_CHECKING:
    from ptgc.runtime import GenerationResult, Generator


def command(
    bundle: BundlePath,
    prompt: Annotated[str | None, typer.Option("-p", "--prompt", metavar="TEXT", help="The prompt.")] = None,
    prompt_ids: Annotated[str | None, typer.Option(metavar="1,2,3", help="The prompt as token ids.")] = None,
    messages: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='Chat messages, [{"role": "user", "content": "..."}], or {"messages": [...], "tools": [...]} with the '
            "options of chat messages; - is stdin.",
        ),
    ] = None,
    template_arguments: Annotated[
        str | None, typer.Option(metavar="JSON", help='Variables of the chat template: {"enable_thinking": false}.')
    ] = None,
    continue_final_message: Annotated[
        bool, typer.Option("--continue-final-message", help="Continue the last message instead of answering it.")
    ] = False,
    build: BuildId = None,
    device: Device = "cpu",
    max_new_tokens: Annotated[
        int | None, typer.Option(help="Most tokens to write; by default 256, or what fits.")
    ] = None,
    stop: Annotated[list[str] | None, typer.Option(help="A string that ends the text; may be repeated.")] = None,
    stop_token_ids: Annotated[
        str | None, typer.Option(metavar="1,2,3", help="Token ids that end the text, in addition to the model's own.")
    ] = None,
    deadline: Annotated[float | None, typer.Option(help="Seconds after which generation stops.")] = None,
    temperature: Annotated[
        float, typer.Option(help="0 takes the likeliest token, 1 samples from the model's distribution.")
    ] = 0.0,
    top_k: Annotated[int, typer.Option(help="Sample from this many likeliest tokens; 0 means all.")] = 0,
    top_p: Annotated[
        float, typer.Option(help="Sample from the likeliest tokens that together reach this probability.")
    ] = 1.0,
    min_p: Annotated[
        float, typer.Option(help="Sample from tokens with at least this share of the likeliest token's probability.")
    ] = 0.0,
    repetition_penalty: Annotated[
        float | None,
        typer.Option(
            help="Above 1 makes tokens of prompt and text less likely; 1 is no penalty; by default the bundle's."
        ),
    ] = None,
    presence_penalty: Annotated[
        float, typer.Option(help="Subtracted from the logits of tokens generated before.")
    ] = 0.0,
    frequency_penalty: Annotated[
        float, typer.Option(help="The same, for each time that the token was generated.")
    ] = 0.0,
    ignore_defaults: Annotated[
        bool, typer.Option("--ignore-defaults", help="Ignore the bundle's generation defaults (see ptgc inspect).")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Equal seeds give equal texts; by default a new seed.")] = None,
    num_steps: Annotated[
        int | None, typer.Option(help="Most rounds that fill a canvas; by default the bundle's.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Which positions of a canvas are filled sooner; by default the bundle's.")
    ] = None,
    infill: Annotated[
        bool, typer.Option("--infill", help="Fill in the mask tokens that the prompt spells, instead of continuing it.")
    ] = False,
    plain: Annotated[bool, typer.Option("--plain", help="Decode without drafts.")] = False,
    num_draft_tokens: Annotated[int | None, typer.Option(min=0, help="Most draft tokens per round.")] = None,
    draft_length: DraftLength = None,
    datastore: Datastore = None,
    drafter: Annotated[
        str | None,
        typer.Option(metavar="ROLE", help="Which role drafts, if several can; by default as tuned, or the first."),
    ] = None,
    trace: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what every round did, one JSON line per round.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a page that shows the rounds on the text.")
    ] = None,
    num_threads: NumThreads = None,
    as_json: AsJson = False,
) -> None:
    """Write text with the newest build of a bundle, or with the build given."""
    with command_errors(as_json):
        given, chat = read_prompt(prompt, prompt_ids, messages)
        check_output_file(trace)
        check_output_file(report)
        from ptgc.runtime import Generator

        if template_arguments is not None:
            chat["template_arguments"] = read_object(template_arguments, "--template-arguments")
        if continue_final_message:
            chat["continue_final_message"] = True
        options: dict[str, Any] = {
            **chat,
            "max_new_tokens": max_new_tokens,
            "stop": tuple(stop or ()),
            "stop_token_ids": None if stop_token_ids is None else read_ids(stop_token_ids, "--stop-token-ids"),
            "deadline": deadline,
            "plain": plain,
            "trace": trace is not None or report is not None,
            "temperature": temperature,
            "top_k": top_k,
            "top_p": top_p,
            "min_p": min_p,
            "repetition_penalty": repetition_penalty,
            "presence_penalty": presence_penalty,
            "frequency_penalty": frequency_penalty,
            "ignore_defaults": ignore_defaults,
            "seed": seed,
            "num_steps": num_steps,
            "threshold": threshold,
            "infill": infill,
        }
        with Generator(
            bundle,
            device=device,
            build=build,
            num_threads=num_threads,
            num_draft_tokens=num_draft_tokens,
            draft_length=draft_length,
            datastore=datastore,
            drafter=drafter,
        ) as generator:
            if report is not None:
                check_has_rounds(generator)
            if not as_json:
                experimental = " (experimental: no GPU has run such builds yet)" if device == "cuda" else ""
                notes.print(f"Build {generator.build.manifest.id}{experimental}", style="dim", markup=False)
                note_refused(generator.bundle)
            result = _write(generator, given, options, show=not as_json)
            if report is not None:
                write_report(report, generator, result, given)
        if trace is not None:
            _write_trace(trace, result)
        if as_json:
            print_json(result.to_json())
        else:
            _summarize(result)


def _write(generator: Generator, prompt: Any, options: dict[str, Any], *, show: bool) -> GenerationResult:
    if not show:
        result: GenerationResult = generator.generate(prompt, **options)
        return result
    if generator.codec is None:
        result = generator.generate(prompt, **options)
        sys.stdout.write(",".join(str(token) for token in result.token_ids) + "\n")
        return result
    if generator.bundle.manifest.plan.canvas is not None and notes.is_terminal:
        from ptgc.cli.live_canvas import fill_live

        filled = fill_live(generator, generator.codec, prompt, options)
        sys.stdout.write(filled.text + "\n")
        return filled
    final = None
    for chunk in generator.stream(prompt, **options):
        sys.stdout.write(chunk.text)
        sys.stdout.flush()
        final = chunk.result
    sys.stdout.write("\n")
    assert final is not None
    return final


def _write_trace(path: Path, result: GenerationResult) -> None:
    lines = [json.dumps({"round": number, **asdict(one)}) for number, one in enumerate(result.trace)]
    write_output(path, "".join(line + "\n" for line in lines).encode())


def _summarize(result: GenerationResult) -> None:
    stats = result.statistics
    parts = [
        f"{stats.new_tokens} tokens",
        f"{stats.tokens_per_second:.1f} tokens/s",
        f"{stats.mean_accept_length:.2f} tokens a round",
        f"first after {stats.time_to_first_token * 1e3:.0f} ms",
        result.finish_reason,
        result.strategy + (", lossless" if result.lossless else ", not lossless"),
    ]
    if result.seed is not None:
        parts.append(f"seed {result.seed}")
    notes.print(" · ".join(parts), style="dim", markup=False, soft_wrap=True)
    if stats.fallback_reason:
        notes.print(
            f"{stats.plain_rounds} of {stats.rounds} rounds were plain: {stats.fallback_reason}",
            style="dim",
            soft_wrap=True,
        )
