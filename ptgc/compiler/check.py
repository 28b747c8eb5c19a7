"""Is what was built what was trained? Stage by stage, against the texts that PyTorch wrote at export."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ptgc.compiler.graph_session import GraphSession, Logits
from ptgc.runtime.generator import Generator
from ptgc.spec.bundle import Build, Bundle, open_bundle
from ptgc.spec.manifest import Role

Progress = Callable[[str], None]

_EXACT = 5e-3  # logit difference of two float32 computations that are the same model


@dataclass(frozen=True)
class Reference:
    """One text that PyTorch wrote."""

    prompt_ids: list[int]
    """The prompt."""
    token_ids: list[int]
    """Its greedy continuation."""
    top_ids: list[list[int]]
    """The tokens of the largest logits, for each new token."""
    top_logits: list[list[float]]
    """Those logits, descending."""

    @property
    def context(self) -> list[int]:
        """What a model reads to predict every new token."""
        return self.prompt_ids + self.token_ids[:-1]


@dataclass
class StageReport:
    """How one stage compares with the original."""

    stage: str
    """Which stage."""
    exact: bool
    """Whether it must give the original's tokens."""
    tokens: int = 0
    """New tokens compared."""
    kept: int = 0
    """Of them, how many are the original's, each given the original's text before it."""
    largest_difference: float = 0.0
    """Largest difference of the logits that the reference holds."""
    divergences: list[str] = field(default_factory=list)
    """What differs, where nothing may."""

    @property
    def passed(self) -> bool:
        """Whether nothing differs that may not."""
        return not self.divergences

    def to_json(self) -> dict[str, Any]:
        """This stage as `ptgc check --json` prints it."""
        return {
            "stage": self.stage,
            "passed": self.passed,
            "tokens": self.tokens,
            "kept": self.kept,
            "largest_difference": self.largest_difference,
            "divergences": self.divergences,
        }


def check_bundle(path: str | Path, progress: Progress = lambda _: None) -> list[StageReport]:
    """Compare the canonical graph, and every build's prepared graph and engine, with the original's texts.

    The first stage that fails is where the error is: later ones inherit it.

    Raises:
        PtgcError: The bundle or a build is damaged, or a backend is missing.
    """
    bundle = open_bundle(path)
    progress("Checking the bundle's files")
    bundle.verify()
    dtype, texts = read_references(bundle)
    exact = dtype == "float32"
    role = bundle.manifest.roles["target"]
    progress("Running the canonical graph")
    reports = []
    if exact:
        reports.append(_check_graph("canonical graph", bundle.path / role.graph, role, texts, exact=True))
    for build in bundle.builds():
        progress(f"Checking build {build.manifest.id}")
        reports += _check_build(bundle, build, texts, exact)
    return reports


def read_references(bundle: Bundle) -> tuple[str, list[Reference]]:
    """The dtype in which PyTorch computed, and the texts that it wrote."""
    assert bundle.manifest.reference is not None
    document = json.loads((bundle.path / bundle.manifest.reference).read_text(encoding="utf-8"))
    names = ("prompt_ids", "token_ids", "top_ids", "top_logits")
    return document["dtype"], [Reference(**{name: text[name] for name in names}) for text in document["prompts"]]


def _check_build(bundle: Bundle, build: Build, texts: Sequence[Reference], exact: bool) -> list[StageReport]:
    build.verify()
    float32 = exact and set(build.manifest.precision.values()) == {"float32"}
    role = build.manifest.roles["target"]
    fitting = [text for text in texts if len(text.context) < build.manifest.shapes.max_length]
    name = build.manifest.id
    reports = []
    if build.manifest.shapes.batch == 1:
        reports.append(_check_graph(f"{name}: prepared graph", build.path / role.graph, role, fitting, exact=float32))
    reports.append(_check_engine(bundle, build, fitting, exact=float32))
    return reports


def _check_graph(stage: str, path: Path, role: Role, texts: Sequence[Reference], *, exact: bool) -> StageReport:
    """The original's text goes in; every next token is compared."""
    report = StageReport(stage, exact)
    capacity = max(len(text.context) for text in texts) + 1
    for number, text in enumerate(texts):
        session = GraphSession(path, role, capacity)
        logits = session.prefill(text.context)[len(text.prompt_ids) - 1 :]
        _compare_logits(report, number, text, logits)
    return report


def _compare_logits(report: StageReport, number: int, text: Reference, logits: Logits) -> None:
    for step, (ids, given) in enumerate(zip(text.top_ids, text.top_logits, strict=True)):
        difference = float(np.abs(logits[step][ids] - np.array(given)).max())
        report.largest_difference = max(report.largest_difference, difference)
        report.tokens += 1
        report.kept += int(np.argmax(logits[step])) == text.token_ids[step]
        if report.exact and difference > _EXACT:
            where = f"text {number}, token {step}"
            report.divergences.append(f"{where}: a logit differs by {difference:.3g} from the original's")


def _check_engine(bundle: Bundle, build: Build, texts: Sequence[Reference], *, exact: bool) -> StageReport:
    """The runtime writes every text plainly and with the bundle's strategy; both must agree."""
    report = StageReport(f"{build.manifest.id}: engine", exact)
    with Generator(bundle.path, build=build.manifest.id, device=build.manifest.device) as generator:
        prompts = [text.prompt_ids for text in texts]
        options = {"max_new_tokens": max(len(text.token_ids) for text in texts)}
        plain = generator.generate(prompts, plain=True, **options)
        drafted = generator.generate(prompts, **options)
    for number, (text, one, other) in enumerate(zip(texts, plain, drafted, strict=True)):
        report.tokens += len(text.token_ids)
        same = _common_prefix(one.token_ids, text.token_ids)
        report.kept += same
        if exact and same < len(text.token_ids) and not _is_tie(text, same):
            report.divergences.append(f"text {number}: plain decoding leaves the original's text at token {same}")
        if one.token_ids != other.token_ids:
            at = _common_prefix(one.token_ids, other.token_ids)
            report.divergences.append(f"text {number}: {other.strategy} leaves plain decoding at token {at}")
    return report


def _common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    for count, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return count
    return min(len(left), len(right))


def _is_tie(text: Reference, step: int) -> bool:
    """Whether the original itself was undecided there."""
    first, second = text.top_logits[step][:2]
    return first - second < _EXACT
