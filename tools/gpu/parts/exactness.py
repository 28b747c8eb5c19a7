"""Exactness: texts of every strategy on the device against PyTorch, the CPU and plain decoding of the same build."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from archives import bundle_names, own_bundle
from cuda_driver import require_device

from parts.base import Figures, Settings, Skipped
from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.compiler.checking.engine import SAMPLING, common_prefix, new_tokens, undecided
from ptgc.compiler.checking.references import read_references
from ptgc.compiler.checking.report import EXACT
from ptgc.runtime import Generator
from ptgc.runtime.results import GenerationResult
from ptgc.spec.bundle import Build, Bundle, open_bundle
from ptgc.spec.loop import Loop
from ptgc.spec.reference import Reference

_NEW_TOKENS, _SMALL_TOKENS = 96, 32
_MOST_PARTED = 0.01  # share of the compared tokens
_MOST_LENGTH = 512  # longest text of a build, if the model's context allows


@dataclass(frozen=True)
class Variant:
    """One build that is checked."""

    precision: str
    """Precision of its weights."""
    batch: int = 1
    """Sequences that step together."""
    backend: str = "onnxruntime"
    """Backend that runs it."""

    @property
    def name(self) -> str:
        """Its name in the report."""
        return f"{self.backend} {self.precision}" + (f" x{self.batch}" if self.batch > 1 else "")


VARIANTS = {
    "cuda": (
        Variant("float32"),
        Variant("float16"),
        Variant("int4"),
        Variant("float32", 3),
        Variant("bfloat16"),
        Variant("int8"),
        Variant("float16", 3),
    ),
    "cpu": (Variant("float32"), Variant("int4"), Variant("float32", 3), Variant("int8")),
}
"""Variants by kind of device, the most informative first."""
_SMALL = 2


def subjects(settings: Settings) -> Sequence[str]:
    """Every bundle, each in its own process."""
    return bundle_names(settings.bundles) or [""]


def measure(settings: Settings, figures: Figures, subject: str) -> None:
    """Check all variants of one bundle."""
    if settings.bundles is None or not subject:
        raise Skipped("There are no bundles: give the folder that tools/gpu/write_bundles.py wrote.")
    if settings.device == "cuda":
        require_device()
    bundle = open_bundle(own_bundle(subject, settings.bundles, settings.work))
    figures.put(strategy=bundle.manifest.plan.strategy)
    variants = VARIANTS[settings.device]
    for variant in variants[:_SMALL] if settings.small else variants:
        with figures.attempt(variant.name):
            found = check_variant(bundle, variant, settings)
            figures.add("checks", found)
            if found["problems"]:
                figures.fail(variant.name, "\n".join(found["problems"]))


def check_variant(bundle: Bundle, variant: Variant, settings: Settings) -> dict[str, Any]:
    """Build a variant, write every reference text with it, and compare.

    Raises:
        PtgcError: It cannot be built or loaded.
    """
    start = time.perf_counter()
    made = build_variant(bundle, variant, settings.device)
    check = _Check(bundle, made, settings, exact=variant.precision == "float32")
    check.found |= {"variant": variant.name, "build_seconds": round(time.perf_counter() - start, 2)}
    with Generator(bundle.path, build=made.manifest.id, device=settings.device, draft_length="fixed") as generator:
        if bundle.manifest.plan.loop is Loop.SPECULATIVE:
            check.drafts(generator)
        else:
            check.whole_texts(generator)
    check.found["seconds"] = round(time.perf_counter() - start, 2)
    return check.found


def build_variant(bundle: Bundle, variant: Variant, device: str) -> Build:
    """Make the build of a variant; if engines need no compiling, rounds are not measured."""
    context = bundle.manifest.model.context_length
    ahead = variant.backend != "onnxruntime"
    options = BuildOptions(
        backend=variant.backend,
        device=device,
        precision=variant.precision,
        batch_size=variant.batch,
        max_length=min(_MOST_LENGTH, context),
        stage=Stage.ALL if ahead else Stage.PREPARE,
        build_id=f"{variant.backend}-{device}-{variant.precision}-{variant.batch}",
        replace=True,
    )
    return build(bundle.path, options)


class _Check:
    """The comparisons of one build.

    Args:
        bundle: The bundle of the build.
        made: The build.
        settings: The settings of the run.
        exact: Whether its texts must be PyTorch's.
    """

    def __init__(self, bundle: Bundle, made: Build, settings: Settings, *, exact: bool) -> None:
        self.bundle, self.made, self.settings, self.exact = bundle, made, settings, exact
        self.texts = read_references(bundle).texts
        self.found: dict[str, Any] = {"tokens": 0, "kept": 0, "parted": [], "problems": []}

    def whole_texts(self, generator: Generator) -> None:
        """Compare complete texts with PyTorch's, for loops that write a text as a whole."""
        results = generator.generate([text.given for text in self.texts])
        for number, (text, result) in enumerate(zip(self.texts, results, strict=True)):
            wanted = new_tokens(text, self.bundle.manifest.plan)
            self.found["tokens"] += len(wanted)
            self.found["kept"] += sum(map(int.__eq__, result.token_ids, wanted))
            if self.exact and result.token_ids != wanted:
                at = common_prefix(result.token_ids, wanted)
                self.found["problems"].append(f"text {number} leaves PyTorch's at token {at}")

    def drafts(self, generator: Generator) -> None:
        """Compare plain texts with PyTorch's and the CPU's, and drafted and sampled texts with plain ones."""
        plain = self._write(generator, plain=True)
        self._with_pytorch(plain)
        if self.exact and self.settings.device != "cpu":
            self._with_cpu(plain)
        if not self.bundle.manifest.plan.drafts:
            return
        drafted = self._write(generator)
        accepted = sum(result.statistics.accepted_tokens for result in drafted)
        rounds = sum(result.statistics.rounds for result in drafted)
        self.found |= {"accepted_tokens": accepted, "rounds": rounds}
        self._with_plain("drafted", plain, drafted)
        sampled = self._write(generator, plain=True, **SAMPLING), self._write(generator, **SAMPLING)
        self._with_plain("sampled", *sampled)
        compared = 2 * sum(len(result.token_ids) for result in plain)
        if len(self.found["parted"]) > max(1, _MOST_PARTED * compared):
            self.found["problems"].append(f"{len(self.found['parted'])} texts part; 1 % of {compared} tokens may")

    def _write(self, generator: Generator, **options: Any) -> list[GenerationResult]:
        longest = max(len(text.given) for text in self.texts)
        tokens = _SMALL_TOKENS if self.settings.small else _NEW_TOKENS
        room = self.made.manifest.shapes.max_length - longest
        if self.texts[0].source_ids:  # with a source, the text starts from position 0
            room = self.made.manifest.shapes.max_length - 1
        given = [text.given for text in self.texts]
        return generator.generate(given, max_new_tokens=min(tokens, room), ignore_defaults=True, **options)

    def _with_pytorch(self, plain: Sequence[GenerationResult]) -> None:
        for number, (text, result) in enumerate(zip(self.texts, plain, strict=True)):
            at = common_prefix(result.token_ids, text.token_ids)
            self.found["tokens"] += len(text.token_ids)
            self.found["kept"] += at
            if self.exact and at < len(text.token_ids) and not _is_tie(text, at):
                self.found["problems"].append(f"text {number}: plain decoding leaves PyTorch's text at token {at}")

    def _with_cpu(self, plain: Sequence[GenerationResult]) -> None:
        """Compare with texts of the CPU's float32 build, which are longer than the references."""
        made = build_variant(self.bundle, Variant("float32"), "cpu")
        with Generator(self.bundle.path, build=made.manifest.id, draft_length="fixed") as generator:
            wanted = self._write(generator, plain=True)
        for number, (text, one, other) in enumerate(zip(self.texts, wanted, plain, strict=True)):
            if one.token_ids == other.token_ids:
                continue
            at = common_prefix(one.token_ids, other.token_ids)
            judged = undecided(made, text.prompt_ids + one.token_ids[:at])
            if judged is None or judged[0] >= EXACT:
                self.found["problems"].append(f"text {number}: plain decoding leaves the CPU's text at token {at}")

    def _with_plain(self, how: str, plain: Sequence[GenerationResult], other: Sequence[GenerationResult]) -> None:
        """Check that a lossless strategy writes the text of plain decoding, up to ties of the build's precision."""
        self.found[f"{how}_equal"] = sum(a.token_ids == b.token_ids for a, b in zip(plain, other, strict=True))
        for number, (text, one, two) in enumerate(zip(self.texts, plain, other, strict=True)):
            if one.token_ids == two.token_ids:
                continue
            at = common_prefix(one.token_ids, two.token_ids)
            judged = None if how == "sampled" else undecided(self.made, text.prompt_ids + one.token_ids[:at])
            self.found["parted"].append({"how": how, "text": number, "token": at, "gap_and_difference": judged})
            if judged is not None and judged[0] >= 2 * judged[1]:
                gap, difference = judged
                self.found["problems"].append(
                    f"text {number}, {how}, leaves plain decoding at token {at}, where the two likeliest tokens are "
                    f"{gap:.3g} apart and widths differ by {difference:.3g}"
                )
            elif judged is None and self.exact:
                self.found["problems"].append(f"text {number}, {how}, leaves plain decoding at token {at}")


def _is_tie(text: Reference, step: int) -> bool:
    """Whether PyTorch itself was undecided there."""
    first, second = text.top_logits[step][:2]
    return first - second < EXACT
