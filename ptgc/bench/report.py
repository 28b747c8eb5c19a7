"""Summarises the runs of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from ptgc.bench.contestants import AUTOREGRESSIVE, PLAIN, PTGC, Contestant
from ptgc.bench.figures import Spread, copied_share, ratios
from ptgc.bench.runs import Run, Runs


def summarize(runs: Sequence[Run], prompt_ids: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """The figures of a report.

    Args:
        runs: The runs; all contestants have the same prompts.
        prompt_ids: Tokens of the prompts, by name.
    """
    table = Runs(runs)
    return {
        "rows": [_row(table, one, prompt_ids) for one in table.contestants],
        "ratios": {f"{one.name} / {other.name}": compare(table, one, other) for one, other in _pairs(table)},
        "best": _compare_best(table),
        "differing_prompts": {
            f"{one.name} vs {other.name}": table.differing(one, other) for one, other in _alike(table)
        },
        "waiting": _waiting(runs),
    }


def baseline(table: Runs, contestant: Contestant) -> Contestant | None:
    """Plain decoding by ptgc at this precision, the baseline of speedups.

    It is that of a bundle exported for plain decoding if there is one, otherwise the build's own plain decoding. For a
    precision at which ptgc does not run, it is the plain decoding of the only precision that ptgc runs at, if there is
    only one.
    """
    plain = [one for one in table.contestants if one.engine == AUTOREGRESSIVE]
    plain += [one for one in table.contestants if one.engine == PTGC and one.mode == PLAIN]
    alike = [one for one in plain if one.precision == contestant.precision]
    if alike:
        return alike[0]
    return plain[0] if len({one.precision for one in plain}) == 1 else None


def _row(table: Runs, contestant: Contestant, prompt_ids: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """One row of the result: figures over all prompts and for each set."""
    by_prompt = table.of(contestant)
    copied = {prompt: copied_share(prompt_ids[prompt], ids) for prompt, ids in table.texts(contestant).items()}
    return {
        "name": contestant.name,
        "engine": contestant.engine,
        "mode": contestant.mode,
        "precision": contestant.precision,
        **_figures(table, contestant, None),
        "runs": len(table.all(contestant)),
        "kinds": {kind: _figures(table, contestant, kind) for kind in table.kinds},
        "by_prompt": {
            prompt: {
                "tokens_per_second": median(run.tokens_per_second for run in found),
                "accept_length": found[0].accept_length,
                "copied_share": copied[prompt],
            }
            for prompt, found in by_prompt.items()
        },
        "unsteady_prompts": [
            prompt for prompt, found in by_prompt.items() if len({tuple(run.written.token_ids) for run in found}) > 1
        ],
    }


def _figures(table: Runs, contestant: Contestant, kind: str | None) -> dict[str, Any]:
    by_prompt = table.of(contestant, kind)
    runs = [run for found in by_prompt.values() for run in found]
    speeds = Spread.of(table.speeds(contestant, kind).values())
    noise = [Spread.of(run.tokens_per_second for run in found).relative for found in by_prompt.values()]
    overheads = [run.written.host_overhead for run in runs if run.written.host_overhead is not None]
    lower = baseline(table, contestant)
    found = compare(table, contestant, lower, kind) if lower else None
    return {
        "tokens_per_second": speeds.median,
        "tokens_per_second_over_prompts": [speeds.minimum, speeds.maximum],
        "speedup": found["median"] if found else None,
        "worst_speedup": found["worst"] if found else None,
        "mean_accept_length": sum(run.written.decode_tokens for run in runs)
        / max(1, sum(run.written.rounds for run in runs)),
        "host_overhead": median(overheads) if overheads else None,
        "spread": median(noise),
        "prefill_seconds": median(run.written.prefill_seconds for run in runs),
        "drafted_tokens": sum(run.written.drafted_tokens for run in runs),
        "accepted_tokens": sum(run.written.accepted_tokens for run in runs),
    }


def compare(table: Runs, upper: Contestant, lower: Contestant, kind: str | None = None) -> dict[str, Any]:
    """The speed of one contestant over that of another, prompt by prompt."""
    found = ratios(table.speeds(upper, kind), table.speeds(lower, kind))
    spread = Spread.of(found.values())
    return {"median": spread.median, "worst": spread.minimum, "best": spread.maximum, "by_prompt": found}


def _pairs(table: Runs) -> list[tuple[Contestant, Contestant]]:
    """Pairs to compare: our strategy with all modes of peers, plain with plain, and drafts with plain decoding."""
    found = []
    for upper in table.contestants:
        for lower in table.contestants:
            if upper == lower or (upper.engine == AUTOREGRESSIVE and lower.engine == PTGC):
                continue
            own = lower.is_own if upper.is_own else upper.engine == lower.engine
            if own and lower.mode == PLAIN and upper.precision == lower.precision:
                found.append((upper, lower))
            if upper.is_own and not lower.is_own and _meet(table, upper, lower):
                found.append((upper, lower))
    return found


def _meet(table: Runs, ours: Contestant, theirs: Contestant) -> bool:
    """Whether to compare two: not our plain with their drafts, and at equal precision if the peer has ours."""
    if ours.mode == PLAIN and theirs.mode != PLAIN:
        return False
    has = {one.precision for one in table.contestants if one.engine == theirs.engine}
    return theirs.precision == ours.precision or ours.precision not in has


def _alike(table: Runs) -> list[tuple[Contestant, Contestant]]:
    """Pairs whose texts should be equal: drafts change nothing, and float32 should agree between engines."""
    found = []
    for one in table.contestants:
        for other in table.contestants:
            if one == other or other.mode != PLAIN or one.precision != other.precision:
                continue
            exact = one.is_own and one.mode == PLAIN and one.precision == "float32"
            if one.engine == other.engine or exact:
                found.append((one, other))
    return found


def _compare_best(table: Runs) -> dict[str, Any]:
    """Our fastest mode at any precision over the fastest of every peer, for all prompts and by set."""
    found: dict[str, Any] = {}
    peers = dict.fromkeys(one.engine for one in table.contestants if not one.is_own)
    for kind in (None, *table.kinds):
        ours = _fastest(table, (PTGC, AUTOREGRESSIVE), kind)
        for peer in peers:
            theirs = _fastest(table, (peer,), kind)
            one = {"ours": ours.name, "theirs": theirs.name, **compare(table, ours, theirs, kind)}
            found.setdefault(peer, {})[kind or "all"] = one
    return found


def _fastest(table: Runs, engines: Sequence[str], kind: str | None) -> Contestant:
    own = [one for one in table.contestants if one.engine in engines]
    return max(own, key=lambda one: median(table.speeds(one, kind).values()))


def _waiting(runs: Sequence[Run]) -> dict[str, dict[str, float]]:
    """Processor time that engines used while others had their turn; threads spin for a while before they sleep."""
    found = {}
    for engine in dict.fromkeys(run.contestant.engine for run in runs):
        own = [run for run in runs if run.contestant.engine == engine]
        found[engine] = {
            "cpu_seconds_a_wait": median(run.idle_cpu_seconds for run in own),
            "cpu_share": sum(run.idle_cpu_seconds for run in own) / sum(run.idle_seconds for run in own),
        }
    return found
