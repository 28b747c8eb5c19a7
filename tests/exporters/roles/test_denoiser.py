"""The exported denoiser, driven as the canvas loop does, against PyTorch."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ptgc.errors import ExportError
from ptgc.exporters.roles.base import TracedRole
from ptgc.exporters.roles.denoiser import denoise
from ptgc.spec.plan import DecodePlan
from ptgc.spec.strategies.block_diffusion import block_diffusion
from ptgc.spec.strategies.masked_diffusion import masked_diffusion
from tests.exporters.graph_run import Graph, load_all, padded, trace_all
from tests.originals import original_text
from tests.other_models import VOCAB_SIZE, tiny_bert, tiny_llama

MASK = 3
TEXTS = [
    [5, MASK, 7, MASK, MASK, 30, MASK, MASK, 9, MASK, MASK, 11, MASK],
    [8, MASK, MASK, 14],
    [40, 41, MASK, MASK, MASK, MASK, MASK, MASK, MASK],
    [9, 10],
]


@cache
def _traced() -> dict[str, TracedRole]:
    return trace_all({"denoiser": tiny_bert()}, masked_diffusion(MASK))


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return load_all(_traced(), tmp_path)["denoiser"]


def _run_loop(graph: Graph, texts: list[list[int]], plan: DecodePlan) -> tuple[list[list[int]], int]:
    """The whole canvas as one block: every round of all rows is one run of the graph."""
    assert plan.canvas is not None
    lengths = np.array([len(text) for text in texts])
    ids = padded(texts, int(lengths.max()) + 3)
    mask = (ids == MASK) & (np.arange(ids.shape[1]) < lengths[:, None])
    threshold = np.full(len(texts), plan.canvas.policy.bound, np.float32)
    rounds = 0
    while mask.any():
        remaining = plan.canvas.num_steps - rounds
        step = -(-mask.sum(axis=1) // remaining)
        out = graph(input_ids=ids, lengths=lengths, canvas_mask=mask, step=step, threshold=threshold)
        ids, mask, rounds = out["output_ids"], mask & (out["output_ids"] == MASK), rounds + 1
        assert out["num_masked"].tolist() == mask.sum(axis=1).tolist()
    return [row[:length].tolist() for row, length in zip(ids, lengths, strict=True)], rounds


@pytest.mark.parametrize("plan", [masked_diffusion(MASK, 1), masked_diffusion(MASK, 4), masked_diffusion(MASK, 7)])
def test_a_ragged_batch_is_filled_as_pytorch_fills_each_text(graph: Graph, plan: DecodePlan) -> None:
    assert plan.canvas is not None
    found, rounds = _run_loop(graph, TEXTS, plan)
    expected = [original_text({"denoiser": tiny_bert()}, plan, text) for text in TEXTS]
    assert found == [text.token_ids for text in expected]
    assert rounds == max(text.rounds for text in expected) == min(plan.canvas.num_steps, 8)
    assert not any(MASK in text for text in found)


@pytest.mark.parametrize("threshold", [0.05, 0.2, 0.6])
def test_a_threshold_fills_sooner_but_never_later(graph: Graph, threshold: float) -> None:
    plan = masked_diffusion(MASK, 8, threshold)
    found, rounds = _run_loop(graph, TEXTS, plan)
    assert found == [original_text({"denoiser": tiny_bert()}, plan, text).token_ids for text in TEXTS]
    assert rounds <= 8 and (threshold > 0.1 or rounds < 8)


def test_blocks_are_filled_one_after_the_other(graph: Graph) -> None:
    plan = masked_diffusion(MASK, 6, block_length=3)
    ids, whole = np.array([TEXTS[2]]), np.arange(9)
    for first in (2, 5, 8):
        for remaining in (2, 1):
            mask = (ids == MASK) & (whole >= first) & (whole < first + 3)
            if not mask.any():
                break
            step = -(-mask.sum(axis=1) // remaining)
            ids = graph(input_ids=ids, lengths=[9], canvas_mask=mask, step=step, threshold=np.ones(1, np.float32))[
                "output_ids"
            ]
        assert (ids[0, : first + 3] != MASK).all() and (ids[0, first + 3 :] == MASK).all()
    assert ids[0].tolist() == original_text({"denoiser": tiny_bert()}, plan, TEXTS[2]).token_ids


def test_confidence_is_pytorchs_probability_whatever_the_neighbours_are(graph: Graph) -> None:
    lengths = np.array([len(text) for text in TEXTS])
    ids = padded(TEXTS, 20, fill=60)
    step = np.zeros(4, np.int64)
    out = graph(input_ids=ids, lengths=lengths, canvas_mask=ids >= 0, step=step, threshold=np.ones(4, np.float32))
    np.testing.assert_array_equal(out["output_ids"], ids)
    assert out["num_masked"].tolist() == lengths.tolist()  # what lies behind a text is never filled
    for text, found in zip(TEXTS, out["confidence"], strict=True):
        logits = denoise(tiny_bert(), torch.tensor([text]), torch.tensor([len(text)]))[0]
        logits[:, MASK] = -torch.inf
        np.testing.assert_allclose(found[: len(text)], logits.softmax(-1).amax(-1).numpy(), rtol=1e-4)


class AnyDenoiser(nn.Module):
    """A third-party module that provides the ports and nothing else."""

    def __init__(self, with_extra: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(VOCAB_SIZE, 16)
        self.mix = nn.Linear(16, VOCAB_SIZE)
        self.with_extra = with_extra

    def forward(self, input_ids: Tensor, lengths: Tensor) -> Any:
        valid = (torch.arange(input_ids.shape[1]) < lengths[:, None])[..., None]
        hidden = self.embedding(input_ids)
        mean = (hidden * valid).sum(1, keepdim=True) / lengths[:, None, None]
        logits = self.mix(torch.tanh(hidden.cumsum(1) - mean))
        return (logits, mean) if self.with_extra else logits


def test_any_module_that_honours_the_ports_is_a_denoiser(tmp_path: Path) -> None:
    module, plan = AnyDenoiser().eval(), masked_diffusion(MASK, 5)
    own = load_all(trace_all({"denoiser": module}, plan), tmp_path)["denoiser"]
    texts = TEXTS[:3]
    assert _run_loop(own, texts, plan)[0] == [
        original_text({"denoiser": module}, plan, text).token_ids for text in texts
    ]


def test_a_denoiser_that_gives_more_than_logits_is_refused() -> None:
    with pytest.raises(ExportError, match="gives 2 outputs"):
        trace_all({"denoiser": AnyDenoiser(with_extra=True).eval()}, masked_diffusion(MASK))


def test_the_graph_has_the_ports_of_the_contract() -> None:
    role = _traced()["denoiser"]
    assert [value.name for value in role.model.graph.inputs] == [port.name for port in role.inputs]
    assert [value.name for value in role.model.graph.outputs] == [port.name for port in role.outputs]
    assert [port.name for port in role.outputs] == ["output_ids", "num_masked", "confidence"]
    assert {node.domain for node in role.model.graph} == {""}
    assert [node.op_type for node in role.model.graph].count("Attention") == 2


class CausalDenoiser(AnyDenoiser):
    """One that looks back only."""

    def forward(self, input_ids: Tensor, lengths: Tensor) -> Any:
        return self.mix(torch.tanh(self.embedding(input_ids).cumsum(1))) + 0.0 * lengths[:, None, None]


def test_a_denoiser_that_looks_back_only_is_refused() -> None:
    with pytest.raises(ExportError, match="CausalDenoiser is causal: what it predicts does not depend"):
        trace_all({"denoiser": CausalDenoiser().eval()}, masked_diffusion(MASK))


def test_a_language_model_whose_blocks_see_later_ones_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def unmasked(module: nn.Module, input_ids: Tensor, _plan: Any) -> Any:
        length = input_ids.shape[1]
        return module(input_ids=input_ids, attention_mask=torch.ones(1, 1, length, length, dtype=torch.bool)).logits

    monkeypatch.setattr("ptgc.exporters.roles.denoiser.attend", unmasked)
    with pytest.raises(ExportError, match="sees later blocks: with blocks of 4"):
        trace_all({"denoiser": tiny_llama()}, block_diffusion(MASK, 4))


def test_a_module_without_states_has_no_cache_of_blocks() -> None:
    with pytest.raises(ExportError, match="AnyDenoiser has no cache"):
        trace_all({"denoiser": AnyDenoiser().eval()}, block_diffusion(MASK, 4))
