"""The contestants: engines, their settings, and the modes in which they decode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ptgc.errors import UsageError
from ptgc.runtime.load_options import LoadOptions
from ptgc.runtime.tuning import read_tuning
from ptgc.spec.bundle import Build, Bundle
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan

PTGC = "ptgc"
AUTOREGRESSIVE = "autoregressive"
"""ptgc with a bundle that was exported for plain decoding."""
OWN = frozenset({PTGC, AUTOREGRESSIVE})
"""Engines that are ptgc."""
PLAIN = "plain"


@dataclass(frozen=True, order=True)
class Contestant:
    """An engine in a mode at a precision."""

    engine: str
    """`ptgc`, `autoregressive` or the name of a peer."""
    mode: str
    """How it decodes."""
    precision: str
    """Precision of its weights."""

    @property
    def name(self) -> str:
        """Its name in tables and rows."""
        how = "" if self.engine == AUTOREGRESSIVE else f" {self.mode}"
        return f"{self.engine}{how} {self.precision}"

    @property
    def is_own(self) -> bool:
        """Whether it is ptgc."""
        return self.engine in OWN


@dataclass(frozen=True)
class Entrant:
    """An engine in its own process."""

    engine: str
    """`ptgc`, `autoregressive` or the name of a peer."""
    precision: str
    """Precision of its weights."""
    worker: str
    """The worker's name of the engine."""
    settings: Mapping[str, Any]
    """The arguments that the worker loads it with."""
    modes: tuple[str, ...]
    """The modes in which it decodes, one text after the other."""
    facts: Mapping[str, Any]
    """Facts about it for the report."""

    @property
    def name(self) -> str:
        """Its name in messages; without a mode if it has several."""
        return self.contestants[0].name if len(self.modes) == 1 else f"{self.engine} {self.precision}"

    @property
    def contestants(self) -> list[Contestant]:
        """One for each mode."""
        return [Contestant(self.engine, mode, self.precision) for mode in self.modes]

    @property
    def is_own(self) -> bool:
        """Whether it is ptgc."""
        return self.engine in OWN


def own_entrant(
    bundle: Bundle, build: Build, num_threads: int, draft_length: str | None = None, datastore: Path | None = None
) -> Entrant:
    """The bundle's strategy and plain decoding of the same build."""
    entrant = _entrant(PTGC, bundle, build, num_threads, modes_of(bundle.manifest.plan))
    settings: dict[str, Any] = {"draft_length": draft_length}
    if datastore is not None:
        settings["datastore"] = str(datastore)
    facts = {"draft_length": draft_length or LoadOptions.draft_length}
    return replace(entrant, settings={**entrant.settings, **settings}, facts={**entrant.facts, **facts})


def beside_entrant(entrant: Entrant, bundle: Bundle) -> Entrant:
    """The strategy of another bundle of the same model, whose mode has the name of the bundle's folder.

    Raises:
        UsageError: The bundle decodes plainly.
    """
    drafting = tuple(mode for mode in entrant.modes if mode != PLAIN)
    if not drafting:
        raise UsageError(
            f"--beside {bundle.path} decodes plainly.", "Measure such a bundle as the baseline: --plain-bundle BUNDLE"
        )
    return replace(entrant, modes=(bundle.path.name,))


def plain_entrant(bundle: Bundle, build: Build, num_threads: int) -> Entrant:
    """An entrant for a bundle that was exported for plain decoding.

    Raises:
        UsageError: It was exported for something else.
    """
    if modes_of(bundle.manifest.plan) != (PLAIN,):
        raise UsageError(
            f"--plain-bundle {bundle.path} has strategy '{bundle.manifest.plan.strategy}'.",
            "Export one: ptgc export MODEL -o BUNDLE --strategy autoregressive",
        )
    return _entrant(AUTOREGRESSIVE, bundle, build, num_threads, (PLAIN,))


def modes_of(plan: DecodePlan) -> tuple[str, ...]:
    """The modes in which a bundle writes; only the speculative loop can also decode plainly."""
    if plan.loop is not Loop.SPECULATIVE:
        return (plan.strategy,)
    return (PLAIN, plan.strategy) if plan.drafts else (PLAIN,)


def precision_of(build: Build) -> str:
    """A build's precision, or those of its roles if they differ."""
    found = build.manifest.precision
    if len(set(found.values())) == 1:
        return next(iter(found.values()))
    return "+".join(found[role] for role in build.manifest.roles)


def _entrant(engine: str, bundle: Bundle, build: Build, num_threads: int, modes: tuple[str, ...]) -> Entrant:
    made, plan, tuning = build.manifest, bundle.manifest.plan, read_tuning(build, bundle.manifest.plan)
    return Entrant(
        engine=engine,
        precision=precision_of(build),
        worker=PTGC,
        settings={"bundle": str(bundle.path), "build": made.id, "num_threads": num_threads},
        modes=modes,
        facts={
            "build": made.id,
            "max_length": made.shapes.max_length,
            "weight_bytes": made.weight_bytes,
            "num_draft_tokens": tuning.most_draft_tokens(plan) if tuning else plan.drafter.num_draft_tokens,
            "provenance": made.provenance,
        },
    )
