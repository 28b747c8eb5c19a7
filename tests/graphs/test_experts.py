"""Finding mixtures of experts in a graph."""

from __future__ import annotations

import numpy as np
import pytest

from ptgc.graphs.experts import mixtures, stacks
from tests.compiler.prepared import normalized


@pytest.mark.parametrize(("family", "count", "sizes"), [("mixtral", 4, (64, 96)), ("qwen3_moe", 8, (64, 32))])
def test_mixtures_are_found_with_their_matrices(family: str, count: int, sizes: tuple[int, int]) -> None:
    hidden, inner = sizes
    graph = normalized(family).graph
    found = mixtures(graph)
    assert len(found) == 2 and len(stacks(graph)) == 4
    for experts in found:
        assert experts.gate_up.shape == (count, 2 * inner, hidden)
        assert experts.down.shape == (count, hidden, inner)
        assert experts.num_chosen == 2
        assert experts.down.array().shape == experts.down.shape
        assert experts.down.array().dtype == np.float32


def test_models_without_experts_have_none() -> None:
    graph = normalized("llama").graph
    assert not mixtures(graph) and not stacks(graph)
