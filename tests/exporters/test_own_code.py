"""Tests of models whose code came with their checkpoint."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from transformers import BertConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.compiler.checking.check import check_bundle
from ptgc.errors import ExportError
from ptgc.exporters import export
from ptgc.exporters.own_code import check_causal
from ptgc.exporters.references.original_roles import greedy_text
from ptgc.runtime import Generator
from ptgc.spec.bundle import open_bundle
from ptgc.spec.strategies.masked_diffusion import masked_diffusion
from tests.other_models import lively

_VOCAB, _MASK = 40, 39


class OwnModel(PreTrainedModel):
    """A model without `generate` that attends without a mask, causally or in both directions."""

    config_class = BertConfig
    causal = False
    sees_mask = True

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.embed, self.positions = nn.Embedding(_VOCAB, 16), nn.Embedding(64, 16)
        self.qkv, self.head = nn.Linear(16, 48), nn.Linear(16, _VOCAB)
        self.post_init()

    def forward(self, input_ids: Any, attention_mask: Any = None, **_rest: Any) -> Any:
        """Logits of every position."""
        x = self.embed(input_ids) + self.positions(torch.arange(input_ids.shape[1]))
        q, k, v = (part[:, None] for part in self.qkv(x).chunk(3, -1))
        if self.sees_mask:
            out = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        else:
            out = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        return CausalLMOutputWithPast(logits=self.head(x + out[:, 0]))


def _model(*, causal: bool = False, sees_mask: bool = True) -> Any:
    kind = type("OwnModel", (OwnModel,), {"causal": causal, "sees_mask": sees_mask, "__module__": "own_code"})
    sys.modules.setdefault("own_code", ModuleType("own_code"))
    config = BertConfig(vocab_size=_VOCAB, max_position_embeddings=64, hidden_size=16, num_hidden_layers=1)
    return lively(kind(config))


def test_a_bidirectional_model_is_told_from_a_causal_one() -> None:
    check_causal(_model(causal=True))
    with pytest.raises(ExportError, match="is bidirectional") as raised:
        check_causal(_model())
    assert "--strategy masked-diffusion" in raised.value.action


def test_a_model_without_generate_and_without_a_cache_writes_text() -> None:
    model = _model(causal=True)
    text, logits = greedy_text(model, [3, 4, 5], 6)
    for count, token in enumerate(text):
        expected = model(torch.tensor([[3, 4, 5, *text[:count]]])).logits[0, -1]
        assert token == int(expected.argmax())
        assert torch.allclose(torch.from_numpy(logits[count]), expected, atol=1e-5)


def test_what_fails_in_its_code_is_no_bug_of_ours() -> None:
    model = _model(causal=True)
    model.forward = None
    with pytest.raises(ExportError, match="whose code came with the checkpoint, failed"):
        greedy_text(model, [3], 2)


def test_it_fills_canvases_of_any_length(tmp_path: Path) -> None:
    model = _model()
    export({"denoiser": model}, masked_diffusion(_MASK, num_steps=4), tmp_path / "bundle")
    build(tmp_path / "bundle", BuildOptions(precision="float32", stage=Stage.PREPARE, max_length=48, build_id="made"))
    bundle = open_bundle(tmp_path / "bundle")
    assert bundle.manifest.reference is not None
    text = json.loads((bundle.path / bundle.manifest.reference).read_text())["prompts"][0]
    with Generator(bundle.path) as generator:  # pads the canvas to one of the build's lengths
        written = generator.generate(text["prompt_ids"]).token_ids
    assert written == text["token_ids"][text["prompt_ids"].index(_MASK) :]
    assert all(report.passed for report in check_bundle(bundle.path))


def test_one_that_attends_to_padding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="padding behind a text"):
        export({"denoiser": _model(sees_mask=False)}, masked_diffusion(_MASK), tmp_path / "bundle")
