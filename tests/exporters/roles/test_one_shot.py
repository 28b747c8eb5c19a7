"""The exported encoder and CTC decoder, driven as the one-shot loop does, against PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertModel

from ptgc.errors import ExportError
from ptgc.exporters.roles.base import TracedRole
from ptgc.spec.plan import DecodePlan
from ptgc.spec.strategies.ctc import ctc
from tests.exporters.graph_run import Graph, load_all, padded, trace_all
from tests.originals import original_text
from tests.other_models import lively, tiny_ctc

SOURCES = [[5, 9, 30, 31, 8, 7, 2, 11, 12], [6, 4], [39], [20, 21, 22, 23, 24]]


def _run_loop(graphs: dict[str, Graph], sources: list[list[int]]) -> list[list[int]]:
    lengths = np.array([len(source) for source in sources])
    ids = padded(sources, int(lengths.max()) + 3, fill=1)
    mask = np.arange(ids.shape[1]) < lengths[:, None]
    rows = graphs["encoder"](input_ids=ids, encoder_attention_mask=mask)
    out = graphs["decoder"](**rows, encoder_attention_mask=mask)
    return [row[:length].tolist() for row, length in zip(out["output_ids"], out["output_lengths"], strict=True)]


def _plan(upsampling: int) -> DecodePlan:
    return ctc(blank_token_id=0, upsampling=upsampling)


def _expected(modules: dict[str, nn.Module], plan: DecodePlan) -> list[list[int]]:
    return [original_text(modules, plan, source).token_ids for source in SOURCES]


@pytest.mark.parametrize("upsampling", [2, 3])
def test_a_ragged_batch_is_read_as_pytorch_reads_each_text(upsampling: int, tmp_path: Path) -> None:
    modules, plan = tiny_ctc(upsampling), _plan(upsampling)
    found = _run_loop(load_all(trace_all(modules, plan), tmp_path), SOURCES)
    assert found == _expected(modules, plan)
    assert len(set(found[0])) > 3 and not any(0 in text for text in found)


def test_an_encoder_of_transformers_serves_too(tmp_path: Path) -> None:
    config = BertConfig(
        vocab_size=40,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=32,
    )
    modules: dict[str, nn.Module] = {
        "encoder": lively(BertModel(config, add_pooling_layer=False)),
        "decoder": tiny_ctc()["decoder"],
    }
    graphs = load_all(trace_all(modules, _plan(2)), tmp_path)
    assert _run_loop(graphs, SOURCES) == _expected(modules, _plan(2))


class WrongDecoder(nn.Module):
    """Returns one row for each token."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(32, 24)

    def forward(self, encoder_hidden_states: Tensor, encoder_attention_mask: Tensor) -> Tensor:
        logits: Tensor = self.head(encoder_hidden_states)
        return logits


def test_another_number_of_rows_than_the_plan_says_is_refused() -> None:
    with pytest.raises(ExportError, match="gives 9 rows for 9 tokens; the plan says 2"):
        original_text({**tiny_ctc(), "decoder": WrongDecoder()}, _plan(2), SOURCES[0])


def test_the_ports_are_those_of_the_contract() -> None:
    roles: dict[str, TracedRole] = trace_all(tiny_ctc(), _plan(2))
    for role in roles.values():
        assert [value.name for value in role.model.graph.inputs] == [port.name for port in role.inputs]
        assert [value.name for value in role.model.graph.outputs] == [port.name for port in role.outputs]
        assert {node.domain for node in role.model.graph} == {""}
    assert [port.name for port in roles["encoder"].outputs] == ["encoder_hidden_states"]
    assert roles["decoder"].inputs[0] == roles["encoder"].outputs[0]
    assert torch.get_default_dtype() is torch.float32
