"""The exported deleter, inserter and filler, driven as the edit loop does, against PyTorch."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ptgc.errors import ExportError
from ptgc.exporters import export
from ptgc.exporters.roles.base import TracedRole
from ptgc.spec.bundle import open_bundle
from ptgc.spec.strategies.levenshtein import levenshtein
from tests.exporters.graph_run import Graph, load_all, padded, trace_all
from tests.originals import original_text
from tests.other_models import tiny_levenshtein

PAD, BOS, EOS, HOLE = 0, 1, 2, 3
SOURCES = [[5, 9, 30, 31, 8, 7, 11, 12], [6, 4], [39, 38, 37], [20, 21, 22, 23, 24]]
EMPTY = [BOS, EOS]


def _plan(max_rounds: int = 6) -> Any:
    return levenshtein(HOLE, BOS, EOS, PAD, max_rounds)


@cache
def _traced() -> dict[str, TracedRole]:
    return trace_all(tiny_levenshtein(), _plan())


@pytest.fixture
def graphs(tmp_path: Path) -> dict[str, Graph]:
    return load_all(_traced(), tmp_path)


def _run_loop(
    graphs: dict[str, Graph], texts: list[list[int]], columns: int, max_rounds: int
) -> tuple[list[list[int]], list[int]]:
    """Finished rows stay in the batch; their later results are ignored."""
    lengths = np.array([len(source) for source in SOURCES])
    ids = padded(SOURCES, int(lengths.max()) + 2, fill=1)
    mask = np.arange(ids.shape[1]) < lengths[:, None]
    fixed = graphs["encoder"](input_ids=ids, encoder_attention_mask=mask) | {"encoder_attention_mask": mask}
    canvas, sizes = padded(texts, columns, fill=PAD), np.array([len(text) for text in texts])
    ended = np.zeros(len(texts), np.int64)
    for number in range(1, max_rounds + 1):
        made, now = canvas, sizes
        for role in ("deleter", "inserter", "filler"):
            out = graphs[role](input_ids=made, lengths=now, **fixed)
            made, now = out["output_ids"], out["output_lengths"]
        running = ended == 0
        still = running & (now == sizes) & (made == canvas).all(axis=1)
        canvas, sizes = np.where(running[:, None], made, canvas), np.where(running, now, sizes)
        ended[still | (running & (number == max_rounds))] = number
        if (ended > 0).all():
            break
    return [row[:size].tolist() for row, size in zip(canvas, sizes, strict=True)], ended.tolist()


@pytest.mark.parametrize("columns", [12, 40])
@pytest.mark.parametrize("max_rounds", [1, 2, 6])
def test_a_ragged_batch_is_edited_as_pytorch_edits_each_text(
    graphs: dict[str, Graph], columns: int, max_rounds: int
) -> None:
    found, rounds = _run_loop(graphs, [EMPTY] * 4, columns, max_rounds)
    expected = [original_text(tiny_levenshtein(), _plan(max_rounds), source, columns) for source in SOURCES]
    assert found == [[BOS, *edited.token_ids, EOS] for edited in expected]
    assert rounds == [edited.rounds for edited in expected]
    assert all(text[0] == BOS and text[-1] == EOS and len(text) <= columns for text in found)
    assert not any(token in (PAD, BOS, EOS, HOLE) for text in found for token in text[1:-1])


def test_editing_does_something_at_every_step(graphs: dict[str, Graph]) -> None:
    """Otherwise the comparison above would prove little."""
    short, _ = _run_loop(graphs, [EMPTY] * 4, 40, 1)
    long, _ = _run_loop(graphs, [EMPTY] * 4, 40, 3)
    assert max(len(text) for text in short) > 3
    assert short != long and len({tuple(text) for text in long}) > 1


def _export(tmp_path: Path, **changes: Any) -> None:
    plan = _plan()
    export(tiny_levenshtein(), replace(plan, edit=replace(plan.edit, **changes)), tmp_path / "b")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"operations": ("deleter", "inserter", "polisher")}, "has the roles .*'polisher'; given: .*filler"),
        ({"operations": ("deleter", "filler")}, "has the roles 'encoder', 'deleter', 'filler'; given: .*inserter"),
        ({"operations": ()}, "has the roles 'encoder'; given"),
        ({"placeholder_token_id": None}, "needs plan.edit.placeholder_token_id"),
    ],
)
def test_operations_that_cannot_be_are_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=said):
        _export(tmp_path, **changes)


def test_an_operation_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    modules = {"encoder": tiny_levenshtein()["encoder"], "polisher": tiny_levenshtein()["filler"]}
    plan = replace(_plan(), edit=replace(_plan().edit, operations=("polisher",)))
    with pytest.raises(ExportError, match="no operation 'polisher'; it has deleter, inserter, filler, token_inserter"):
        export(modules, plan, tmp_path / "b")


def test_what_the_roles_share_is_in_the_bundle_once(tmp_path: Path) -> None:
    modules = tiny_levenshtein()
    bundle = open_bundle(export(modules, _plan(), tmp_path / "b"))
    bundle.verify()
    sizes = {entry.path: entry.size for entry in bundle.manifest.files if entry.path.endswith(".data")}
    decoder = sum(parameter.nbytes for parameter in modules["deleter"].decoder.parameters())
    assert sizes["graphs/deleter.data"] > 0.8 * decoder
    assert sizes["graphs/inserter.data"] + sizes["graphs/filler.data"] < 0.5 * decoder
    assert bundle.manifest.plan == _plan() and not bundle.manifest.plan.lossless
    assert {"edit-loop", "encoder"} <= set(bundle.manifest.features)
    again = load_all(_traced(), tmp_path)
    assert set(again) == set(bundle.manifest.roles)
