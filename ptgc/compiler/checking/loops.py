"""The loops that do not write token by token, in a few lines over a bundle's graphs: one text at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ptgc.compiler.checking.report import StageReport
from ptgc.compiler.checking.role_inputs import Array, load_graph
from ptgc.spec import ports
from ptgc.spec.canvas import CanvasPlan, Unmasking
from ptgc.spec.edit import EditPlan
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan
from ptgc.spec.reference import Reference
from ptgc.spec.role import Role

Values = dict[str, Array]
Roles = Mapping[str, Callable[[Values], Values]]


def check_loop(
    stage: str, folder: Path, roles: Mapping[str, Role], plan: DecodePlan, texts: Sequence[Reference], *, exact: bool
) -> StageReport:
    """The plan's loop on the graphs writes every text that PyTorch wrote.

    Args:
        stage: Name of the stage.
        folder: Of the bundle or the build.
        roles: The graphs.
        plan: A loop other than the speculative one.
        texts: What PyTorch wrote.
        exact: Whether texts must be the original's.
    """
    report = StageReport(stage, exact)
    loaded = {name: runner(folder / role.graph) for name, role in roles.items()}
    for number, text in enumerate(texts):
        written = write(loaded, plan, text)
        report.tokens += len(text.token_ids)
        report.kept += sum(map(int.__eq__, written, text.token_ids))
        if exact and written != text.token_ids:
            at = next(
                (at for at, pair in enumerate(zip(written, text.token_ids, strict=False)) if pair[0] != pair[1]),
                min(len(written), len(text.token_ids)),
            )
            report.divergences.append(f"text {number}: leaves the original's text at token {at}")
    return report


def write(roles: Roles, plan: DecodePlan, text: Reference) -> list[int]:
    """One text of a plan's loop, from what PyTorch began with."""
    if plan.loop is Loop.CANVAS:
        assert plan.canvas is not None
        return _fill_canvas(roles["denoiser"], plan.canvas, text.prompt_ids)
    read = encode(roles["encoder"], text.source_ids)
    if plan.loop is Loop.ONE_SHOT:
        made = roles["decoder"](read)
        return _kept(made[ports.OUTPUT_IDS.name], made[ports.OUTPUT_LENGTHS.name])
    assert plan.edit is not None
    return _edit(roles, plan.edit, read, text)


def _fill_canvas(denoiser: Callable[[Values], Values], plan: CanvasPlan, prompt_ids: Sequence[int]) -> list[int]:
    ids = np.array([prompt_ids], np.int64)
    threshold = plan.threshold if plan.unmasking is Unmasking.THRESHOLD else 1.0
    for block, num_rounds in _blocks(ids[0] == plan.mask_token_id, plan):
        for remaining in range(num_rounds, 0, -1):
            masked = (ids[0] == plan.mask_token_id) & block
            if not masked.any():
                break
            values = {
                ports.CANVAS_IDS.name: ids,
                ports.LENGTHS.name: np.array([ids.shape[1]], np.int64),
                ports.CANVAS_MASK.name: masked[None],
                ports.STEP.name: np.array([-(-int(masked.sum()) // remaining)], np.int64),
                ports.THRESHOLD.name: np.array([threshold], np.float32),
            }
            ids = denoiser(values)[ports.OUTPUT_IDS.name]
    return [int(token) for token in ids[0]]


def _blocks(masked: Array, plan: CanvasPlan) -> Iterator[tuple[Array, int]]:
    """The positions of each block, and its rounds; blocks begin at the first masked position."""
    positions = np.flatnonzero(masked)
    if not positions.size:
        return
    start, end = int(positions[0]), int(positions[-1]) + 1
    length = plan.block_length or end - start
    starts = range(start, end, length)
    where = np.arange(masked.size)
    for first in starts:
        yield (where >= first) & (where < first + length), max(1, plan.num_steps // len(starts))


def encode(encoder: Callable[[Values], Values], source: Sequence[int]) -> Values:
    """What the other roles read of a source: the encoder's outputs under the names of their inputs."""
    ids = np.array([source], np.int64)
    mask = np.ones(ids.shape, np.bool_)
    made = encoder({ports.SOURCE_IDS.name: ids, ports.ENCODER_ATTENTION_MASK.name: mask})
    named = {name.replace("present.", "past_key_values.", 1): value for name, value in made.items()}
    return {**named, ports.ENCODER_ATTENTION_MASK.name: mask}


def _edit(roles: Roles, plan: EditPlan, read: Values, text: Reference) -> list[int]:
    """Delete, insert placeholders, fill; until a round changes nothing."""
    ids = text.prompt_ids
    for _ in range(plan.max_rounds):
        before = ids
        canvas = np.full((1, max(text.canvas_length, len(ids))), plan.pad_token_id, np.int64)
        canvas[0, : len(ids)] = ids
        lengths = np.array([len(ids)], np.int64)
        for name in ("deleter", "inserter", "filler"):
            made = roles[name](read | {ports.CANVAS_IDS.name: canvas, ports.LENGTHS.name: lengths})
            canvas, lengths = made[ports.OUTPUT_IDS.name], made.get(ports.OUTPUT_LENGTHS.name, lengths)
        ids = _kept(canvas, lengths)
        if ids == before:
            break
    return ids


def _kept(ids: Array, lengths: Array) -> list[int]:
    """The tokens of a role's output that count."""
    return [int(token) for token in ids[0, : int(lengths[0])]]


def runner(path: Path) -> Callable[[Values], Values]:
    """A graph as a function of its inputs by name; values that it has no input for are left out."""
    session: Any = load_graph(str(path))
    names = [value.name for value in session.get_inputs()]
    outputs = [value.name for value in session.get_outputs()]

    def run(values: Values) -> Values:
        found = session.run(outputs, {name: values[name] for name in names})
        return dict(zip(outputs, found, strict=True))

    return run
