"""The exported encoder-decoder, driven in rounds over its caches, against PyTorch."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BartConfig, BartForConditionalGeneration, T5Config, T5ForConditionalGeneration

from ptgc.errors import ExportError
from ptgc.exporters.references.original_roles import translate
from ptgc.exporters.roles.base import TracedRole
from ptgc.spec.kv_cache import StateKind
from ptgc.spec.strategies.autoregressive import autoregressive
from ptgc.spec.tree import TreeSpec
from tests.exporters.graph_run import Graph, load_all, padded, trace_all
from tests.other_models import VOCAB_SIZE, lively, tiny_llama, tiny_marian

SOURCES = [[5, 9, 30, 31, 8, 77, 2], [6, 4], [40, 41, 42, 43]]
CAPACITY = 40
COUNT = 12


@cache
def tiny_bart() -> Any:
    """Learned positions that begin at 2, and encoder heads of another size than the decoder's."""
    config = BartConfig(
        vocab_size=VOCAB_SIZE,
        d_model=32,
        encoder_layers=1,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=64,
        decoder_start_token_id=2,
        eos_token_id=None,
        forced_eos_token_id=None,
    )
    return lively(BartForConditionalGeneration(config))


MODELS = {"marian": tiny_marian, "bart": tiny_bart}


@cache
def _traced(name: str) -> dict[str, TracedRole]:
    model = MODELS[name]()
    return trace_all({"target": model, "encoder": model}, autoregressive())


class Decoding:
    """A batch of texts on the two graphs, in rounds of any tree."""

    def __init__(self, roles: dict[str, TracedRole], graphs: dict[str, Graph], sources: list[list[int]]) -> None:
        self._target = graphs["target"]
        lengths = np.array([len(source) for source in sources])
        ids = padded(sources, int(lengths.max()) + 2, fill=1)
        self._mask = np.arange(ids.shape[1]) < lengths[:, None]
        made = graphs["encoder"](input_ids=ids, encoder_attention_mask=self._mask)
        self._fixed = {name.replace("present", "past_key_values"): array for name, array in made.items()}
        shapes = [(len(sources), state.kv_heads, CAPACITY, state.head_dim) for state in roles["target"].states]
        self._caches = {
            f"past_key_values.{layer}.{part}": np.zeros(shape, np.float32)
            for layer, shape in enumerate(shapes)
            for part in ("key", "value")
        }
        self.lengths = np.zeros(len(sources), np.int64)

    def forward(self, ids: list[list[int]], tree: TreeSpec | None = None) -> dict[str, Any]:
        """Run one round; the caller adds the kept rows to `lengths`."""
        rows = len(ids[0])
        tree = tree or TreeSpec.chain(rows - 1)
        out = self._target(
            input_ids=np.array(ids),
            position_ids=self.lengths[:, None] + np.array(tree.depths),
            tree_mask=np.repeat(np.array(tree.ancestors())[None], len(ids), axis=0),
            mask_start=self.lengths,
            write_index=self.lengths,
            row_count=np.full(len(ids), rows),
            logits_rows=np.repeat(np.arange(rows)[None], len(ids), axis=0),
            encoder_attention_mask=self._mask,
            **self._fixed,
            **self._caches,
        )
        self._caches = {name: out[name.replace("past_key_values", "present")] for name in self._caches}
        return out


@pytest.fixture
def decoding(name: str, tmp_path: Path) -> Decoding:
    return Decoding(_traced(name), load_all(_traced(name), tmp_path), SOURCES)


@pytest.mark.parametrize("name", MODELS)
def test_a_ragged_batch_is_translated_as_pytorch_does_text_by_text(name: str, decoding: Decoding) -> None:
    model = MODELS[name]()
    start = model.config.decoder_start_token_id
    texts = [[start] for _ in SOURCES]
    for _ in range(COUNT):
        chosen = decoding.forward([text[-1:] for text in texts])["next_ids"][:, 0]
        decoding.lengths += 1
        texts = [[*text, int(token)] for text, token in zip(texts, chosen, strict=True)]
    expected = [translate(model, source, COUNT)[0] for source in SOURCES]
    assert [text[1:] for text in texts] == expected
    assert len({tuple(text) for text in expected}) == 3 and len(set(expected[0])) > 1


@pytest.mark.parametrize("name", MODELS)
def test_a_tree_over_a_prefix_gives_the_logits_of_pytorch(name: str, decoding: Decoding) -> None:
    model, tree = MODELS[name](), TreeSpec((-1, 0, 0, 1, 2, 2))
    rng = np.random.default_rng(0)
    prefix, nodes = rng.integers(3, VOCAB_SIZE, (3, 9)), rng.integers(3, VOCAB_SIZE, (3, 6))
    for rows in (prefix[:, :4], prefix[:, 4:]):
        decoding.forward(rows.tolist())
        decoding.lengths += rows.shape[1]
    found = decoding.forward(nodes.tolist(), tree)["logits"]
    for node, path in ((3, [0, 1, 3]), (5, [0, 2, 5])):
        for b, source in enumerate(SOURCES):
            text = [*prefix[b].tolist(), *(int(nodes[b, one]) for one in path)]
            with torch.no_grad():
                expected = model(input_ids=torch.tensor([source]), decoder_input_ids=torch.tensor([text])).logits[0, -1]
            np.testing.assert_allclose(found[b, node], expected.numpy(), atol=2e-4, rtol=1e-4)


@torch.no_grad()
def test_the_reference_is_what_transformers_generates() -> None:
    model = tiny_marian()
    for source in SOURCES:
        ids = torch.tensor([source])
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=COUNT, do_sample=False, num_beams=1, use_cache=True
        )
        assert translate(model, source, COUNT)[0] == out[0, 1:].tolist()


def test_the_encoder_writes_the_states_that_the_target_reads() -> None:
    encoder, target = _traced("marian")["encoder"], _traced("marian")["target"]
    assert encoder.cross_states == target.cross_states and len(target.cross_states) == 2
    assert {state.kind for state in target.cross_states} == {StateKind.CROSS}
    assert not encoder.states and not encoder.outputs and len(target.states) == 2
    made = [value.name for value in encoder.model.graph.outputs]
    read = [value.name for value in target.model.graph.inputs][-4:]
    assert read == [str(name).replace("present", "past_key_values") for name in made]
    assert {node.domain for role in (encoder, target) for node in role.model.graph} == {""}


def test_tracing_leaves_the_model_as_it_was() -> None:
    ids = torch.tensor([SOURCES[0]])
    with torch.no_grad():
        before = tiny_marian()(input_ids=ids, decoder_input_ids=ids).logits
        _traced("marian")
        after = tiny_marian()(input_ids=ids, decoder_input_ids=ids).logits
    assert torch.equal(before, after)


def test_an_encoder_decoder_without_its_encoder_is_refused() -> None:
    with pytest.raises(ExportError, match="its encoder is a role of its own"):
        trace_all({"target": tiny_marian()}, autoregressive())


def test_a_causal_model_has_no_encoder() -> None:
    with pytest.raises(ExportError, match="has no encoder"):
        trace_all({"target": tiny_llama(), "encoder": tiny_llama()}, autoregressive())


def test_a_bias_by_position_is_refused() -> None:
    config = T5Config(vocab_size=32, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    model = T5ForConditionalGeneration(config).eval()
    with pytest.raises(ExportError, match=r"bias by position|transformers' attention interface"):
        trace_all({"target": model, "encoder": model}, autoregressive())
