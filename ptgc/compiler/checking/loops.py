"""Runs the loops that do not write token by token over a bundle's graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ptgc.compiler.checking.report import StageReport
from ptgc.compiler.checking.role_inputs import load_graph
from ptgc.compiler.graph_session import NUMPY_TYPES
from ptgc.graphs.reference_loops import RoleCall, Values, write
from ptgc.spec.kv_cache import LayerState
from ptgc.spec.plan import DecodePlan
from ptgc.spec.reference import Reference
from ptgc.spec.role import Role


def check_loop(
    stage: str, folder: Path, roles: Mapping[str, Role], plan: DecodePlan, texts: Sequence[Reference], *, exact: bool
) -> StageReport:
    """Run the plan's loop on the graphs and compare with every text that PyTorch wrote.

    Args:
        stage: Name of the stage.
        folder: The folder of the bundle or the build.
        roles: The graphs.
        plan: A loop other than the speculative one.
        texts: What PyTorch wrote.
        exact: Whether texts must equal the original's.
    """
    report = StageReport(stage, exact)
    longest = max(len(text.given) for text in texts)
    loaded = {name: runner(folder / role.graph, role.states, longest) for name, role in roles.items()}
    for number, text in enumerate(texts):
        written = write(loaded, plan, text.given, text.canvas_length).token_ids
        report.tokens += len(text.token_ids)
        report.kept += sum(map(int.__eq__, written, text.token_ids))
        if exact and written != text.token_ids:
            at = next(
                (at for at, pair in enumerate(zip(written, text.token_ids, strict=False)) if pair[0] != pair[1]),
                min(len(written), len(text.token_ids)),
            )
            report.divergences.append(f"text {number}: leaves the original's text at token {at}")
    return report


def runner(path: Path, states: Sequence[LayerState] = (), capacity: int = 0) -> RoleCall:
    """A graph as a function of its inputs by name; it ignores values that it has no input for.

    Args:
        path: The ONNX file.
        states: The states that it keeps from call to call.
        capacity: Slots of its cache.
    """
    session: Any = load_graph(str(path))
    names = [value.name for value in session.get_inputs()]
    outputs = [value.name for value in session.get_outputs()]

    kept: Values = {}
    follows: dict[str, str] = {}
    for layer, state in enumerate(states):
        for past, present in zip(state.past_ports(layer), state.present_ports(layer), strict=True):
            follows[present.name] = past.name
            kept[past.name] = np.zeros((1, state.kv_heads, capacity, state.head_dim), NUMPY_TYPES[state.dtype.value])

    def run(values: Values) -> Values:
        given = kept | values
        found = dict(zip(outputs, session.run(outputs, {name: given[name] for name in names}), strict=True))
        kept.update({past: found[present] for present, past in follows.items()})
        return found

    return run
