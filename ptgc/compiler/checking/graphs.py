"""Compares graphs with the original's texts, and prepared graphs with canonical ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ptgc.compiler.checking.report import EXACT, StageReport
from ptgc.compiler.checking.role_inputs import common_outputs, load_graph, made_up_inputs
from ptgc.compiler.graph_session import GraphSession, Logits
from ptgc.extras import how_to_install
from ptgc.graphs.reference_loops import RoleCall, encode
from ptgc.spec.reference import Reference
from ptgc.spec.role import Role


def check_texts(
    stage: str,
    path: Path,
    role: Role,
    texts: Sequence[Reference],
    *,
    exact: bool,
    encoder: RoleCall | None = None,
) -> StageReport:
    """Feed the original's texts to a graph and compare every next token.

    Args:
        stage: Name of the stage.
        path: The graph.
        role: Its ports.
        texts: What PyTorch wrote.
        exact: Whether logits must equal the original's.
        encoder: The role's encoder, if it has one.
    """
    report = StageReport(stage, exact)
    capacity = max(len(text.context) for text in texts) + 1
    for number, text in enumerate(texts):
        read = encode(encoder, text.source_ids) if encoder else None
        session = GraphSession(path, role, capacity, read=read)
        logits = session.prefill(text.context)[len(text.prompt_ids) - 1 :]
        _compare_logits(report, number, text, logits)
    return report


def _compare_logits(report: StageReport, number: int, text: Reference, logits: Logits) -> None:
    for step, (ids, given) in enumerate(zip(text.top_ids, text.top_logits, strict=True)):
        difference = float(np.abs(logits[step][ids] - np.array(given)).max())
        where = f"text {number}, token {step}"
        report.tokens += 1
        report.kept += int(np.argmax(logits[step])) == text.token_ids[step]
        if not np.isfinite(logits[step]).all():
            report.divergences.append(f"{where}: logits are NaN or infinite")
            return
        report.largest_difference = max(report.largest_difference, difference)
        if report.exact and difference > EXACT:
            report.divergences.append(f"{where}: a logit differs by {difference:.3g} from the original's")


def check_outputs(
    stage: str, before: tuple[Path, Role], after: tuple[Path, Role], vocab_size: int, *, exact: bool
) -> StageReport:
    """Compare two forms of one graph on the same made-up inputs.

    Args:
        stage: Name of the stage.
        before: The canonical graph and its ports.
        after: The prepared one.
        vocab_size: Token ids are smaller than this.
        exact: Whether both must give the same outputs.
    """
    report = StageReport(stage, exact)
    first, second = load_graph(str(before[0])), load_graph(str(after[0]))
    # An encoder may have no output ports: its decoder's cross states are outputs that the ports do not list.
    names = common_outputs(before[1], after[1]) or [value.name for value in second.get_outputs()]
    inputs = made_up_inputs(second, vocab_size)
    own = made_up_inputs(first, vocab_size)  # for what the second lacks; caches may have another type
    given = {name: inputs[name].astype(value.dtype) if name in inputs else value for name, value in own.items()}
    expected = first.run(names, given)
    for name, wanted, found in zip(names, expected, second.run(names, inputs), strict=True):
        if wanted.shape != found.shape:
            report.divergences.append(f"output {name} has the shape {found.shape}, not {wanted.shape}")
        elif wanted.dtype.kind == "f":
            _compare_floats(report, name, wanted.astype(np.float32), found.astype(np.float32))
        elif exact and (wanted != found).any():
            report.divergences.append(f"output {name} differs in {int((wanted != found).sum())} of {wanted.size}")
    return report


def _compare_floats(report: StageReport, name: str, wanted: Logits, given: Logits) -> None:
    if not np.isfinite(given).all() and np.isfinite(wanted).all():
        report.divergences.append(f"output {name} holds NaN or infinity")
        return
    difference = float(np.nanmax(np.abs(np.where(np.isfinite(wanted), given - wanted, 0.0)), initial=0.0))
    report.largest_difference = max(report.largest_difference, difference)
    if report.exact and difference > EXACT:
        report.divergences.append(f"output {name} differs by {difference:.3g}")


def explain(report: StageReport, before: Path, after: Path, vocab_size: int) -> None:
    """If a prepared graph differs, add to the report which module is the first that differs."""
    if not report.passed:
        try:
            from ptgc.compiler.checking.modules import first_difference
        except ImportError:
            report.hint = f"finding the place needs ONNX's Python packages: {how_to_install('build')}"
            return
        report.hint = first_difference(before, after, vocab_size)
