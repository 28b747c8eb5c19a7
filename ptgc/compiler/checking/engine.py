"""Compares what the runtime writes with the original and with plain decoding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ptgc.compiler.checking.report import EXACT, StageReport
from ptgc.compiler.graph_session import NUMPY_TYPES, GraphSession, writes_alone
from ptgc.graphs.reference_loops import accepts
from ptgc.runtime import Generator
from ptgc.runtime.results import GenerationResult
from ptgc.spec.acceptance import AcceptanceRule
from ptgc.spec.bundle import Build, Bundle
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan
from ptgc.spec.reference import Reference

_WIDTHS = (2, 4, 8)  # of the rounds that are compared with a round of one row
_MOST_UNDECIDED = 0.01  # of the tokens compared
_SEED = 20
SAMPLING = {"temperature": 0.8, "top_k": 40, "seed": _SEED}
"""Options of the texts that are sampled."""


def check_engine(
    bundle: Bundle, build: Build, texts: Sequence[Reference], *, exact: bool, datastore: Path | None = None
) -> list[StageReport]:
    """Let the runtime write every text: with plain decoding, with the bundle's strategy, and sampled.

    Args:
        bundle: The bundle.
        build: The build to run.
        texts: What PyTorch wrote.
        exact: Whether plain decoding must reproduce the original's texts.
        datastore: What the strategy drafts from, if it drafts from a datastore.
    """
    name = build.manifest.id
    report = StageReport(f"{name}: engine", exact)
    plan = bundle.manifest.plan
    with Generator(bundle.path, build=name, device=build.manifest.device, datastore=datastore) as generator:
        if plan.loop is not Loop.SPECULATIVE:
            _check_whole_texts(report, generator, texts, plan)
            return [report]
        plain = _write(generator, texts, plain=True)
        _check_plain(report, texts, plain)
        if not plan.drafts:
            return [report]
        drafted = _write(generator, texts)
        if plan.acceptance.is_lossy:
            return [report, _check_accepted(f"{name}: engine, acceptance", build, plan, texts, drafted)]
        _check_drafted(report, build, texts, (plain, drafted))
        reports = [report]
        if plan.acceptance is AcceptanceRule.MATCH:
            reports.append(_check_sampled(f"{name}: engine, sampling", generator, texts))
    return reports


def _write(generator: Generator, texts: Sequence[Reference], **options: Any) -> list[GenerationResult]:
    longest = max(len(text.token_ids) for text in texts)
    # PyTorch wrote its texts without the checkpoint's generation settings.
    return generator.generate([text.given for text in texts], max_new_tokens=longest, ignore_defaults=True, **options)


def _check_whole_texts(report: StageReport, generator: Generator, texts: Sequence[Reference], plan: DecodePlan) -> None:
    """Compare the whole texts of loops that do not write token by token."""
    if plan.always_draws:
        results = [generator.generate(text.given, seed=0) for text in texts]  # the seed of the reference texts
    else:
        results = generator.generate([text.given for text in texts])
    for number, (text, result) in enumerate(zip(texts, results, strict=True)):
        wanted = new_tokens(text, plan)
        report.tokens += len(wanted)
        report.kept += sum(map(int.__eq__, result.token_ids, wanted))
        if report.exact and result.token_ids != wanted:
            at = common_prefix(result.token_ids, wanted)
            report.divergences.append(f"text {number}: {result.strategy} leaves the original's text at token {at}")


def new_tokens(text: Reference, plan: DecodePlan) -> list[int]:
    """The tokens that the runtime returns for a text; for a canvas, those from the first mask on."""
    if plan.canvas is not None:
        return text.token_ids[text.prompt_ids.index(plan.canvas.mask_token_id) :]
    return text.token_ids


def _check_plain(report: StageReport, texts: Sequence[Reference], plain: Sequence[GenerationResult]) -> None:
    for number, (text, result) in enumerate(zip(texts, plain, strict=True)):
        report.tokens += len(text.token_ids)
        same = common_prefix(result.token_ids, text.token_ids)
        report.kept += same
        if report.exact and same < len(text.token_ids) and not _is_tie(text, same):
            report.divergences.append(f"text {number}: plain decoding leaves the original's text at token {same}")


def _check_drafted(
    report: StageReport,
    build: Build,
    texts: Sequence[Reference],
    results: tuple[Sequence[GenerationResult], Sequence[GenerationResult]],
) -> None:
    """A lossless strategy writes what plain decoding writes, except where two tokens are equally likely."""
    for number, (text, one, other) in enumerate(zip(texts, *results, strict=True)):
        if one.token_ids == other.token_ids:
            continue
        at = common_prefix(one.token_ids, other.token_ids)
        what = f"text {number}: {other.strategy} leaves plain decoding at token {at}"
        judged = undecided(build, text.prompt_ids + one.token_ids[:at])
        if judged is None:
            report.divergences.append(what)
            continue
        gap, difference = judged
        what += f", where the two likeliest tokens are {gap:.3g} apart and widths differ by {difference:.3g}"
        (report.undecided if gap < 2 * difference else report.divergences).append(what)
    if len(report.undecided) > max(1, _MOST_UNDECIDED * report.tokens):
        report.divergences.append(f"{len(report.undecided)} texts part at undecided tokens; 1 % of the tokens may")


def _check_accepted(
    stage: str, build: Build, plan: DecodePlan, texts: Sequence[Reference], results: Sequence[GenerationResult]
) -> StageReport:
    """Every token of a lossy strategy's text is the likeliest one, or one that its rule accepts."""
    report = StageReport(stage, exact=False)
    if not _runs_alone(build):
        return report
    for number, (text, result) in enumerate(zip(texts, results, strict=True)):
        rows = _rows(build, [*text.prompt_ids, *result.token_ids[:-1]], len(result.token_ids))
        for at, (logits, token) in enumerate(zip(rows, result.token_ids, strict=True)):
            report.tokens += 1
            report.kept += int(logits.argmax()) == token
            if not accepts(plan, logits, token, slack=2 * EXACT):
                what = f"token {at} of {result.strategy} is not one that the rule {plan.acceptance.value} accepts"
                report.divergences.append(f"text {number}: {what}")
    return report


def undecided(build: Build, context: Sequence[int]) -> tuple[float, float] | None:
    """How clear plain decoding's choice of the next token is.

    Args:
        build: The build whose prepared graph is run.
        context: The text so far.

    Returns:
        The gap between the two largest logits, and the largest difference of that row's logits between a round of one
        row and wider rounds. None if the graph cannot be run here.
    """
    if not _runs_alone(build):
        return None
    rows = [_rows(build, context, width)[-1] for width in (1, *_WIDTHS) if width <= len(context)]
    second, first = np.sort(rows[0])[-2:]
    return float(first - second), max((float(np.abs(row - rows[0]).max()) for row in rows[1:]), default=0.0)


def _runs_alone(build: Build) -> bool:
    """Whether the prepared target can be run from Python."""
    role = build.manifest.roles["target"]
    known = all(state.dtype.value in NUMPY_TYPES for state in role.states)
    return build.manifest.shapes.batch == 1 and writes_alone(role) and known


def _rows(build: Build, context: Sequence[int], width: int) -> Any:
    """The logits after each of the last `width` tokens, read in one round."""
    role = build.manifest.roles["target"]
    capacity = len(context) + max(_WIDTHS)
    session = GraphSession(build.path / role.graph, role, capacity, device=build.manifest.device)
    if len(context) > width:
        session.prefill(context[:-width])
    return session.forward(context[-width:])


def _check_sampled(stage: str, generator: Generator, texts: Sequence[Reference]) -> StageReport:
    """With the rule `match`, a sampled text equals that of plain decoding with the same seed, token for token."""
    report = StageReport(stage)
    results = _write(generator, texts, plain=True, **SAMPLING), _write(generator, texts, **SAMPLING)
    for number, (plain, drafted) in enumerate(zip(*results, strict=True)):
        same = common_prefix(plain.token_ids, drafted.token_ids)
        report.tokens += len(plain.token_ids)
        report.kept += same
        if plain.token_ids != drafted.token_ids:
            what = f"{drafted.strategy} leaves plain decoding at token {same}"
            report.divergences.append(f"text {number}, sampled with seed {_SEED}: {what}")
    return report


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """The length of the common prefix of two texts."""
    for count, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return count
    return min(len(left), len(right))


def _is_tie(text: Reference, step: int) -> bool:
    """Whether the original itself was undecided there."""
    first, second = text.top_logits[step][:2]
    return first - second < EXACT
