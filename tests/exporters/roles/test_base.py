"""Bundles of every loop: the content of manifests and references, and exporters from other packages."""

from __future__ import annotations

import copy
import json
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import onnx_ir as ir
import pytest
import torch
from torch import Tensor, nn

from ptgc.errors import ExportError
from ptgc.exporters import export
from ptgc.exporters.references.original_roles import translate
from ptgc.exporters.roles import base as roles
from ptgc.exporters.roles.base import RoleSource, TracedRole, trace_role
from ptgc.spec.bundle import Bundle, open_bundle
from ptgc.spec.model_facts import ModelFacts
from ptgc.spec.ports import CANVAS_IDS, OUTPUT_IDS
from ptgc.spec.strategies.autoregressive import autoregressive
from ptgc.spec.strategies.ctc import ctc
from ptgc.spec.strategies.masked_diffusion import masked_diffusion
from ptgc.spec.strategies.ngram import ngram
from tests.other_models import tiny_bert, tiny_ctc, tiny_llama, tiny_marian, words


class Bare(nn.Module):
    """A denoiser without a configuration."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(20, 20)

    def forward(self, input_ids: Tensor, lengths: Tensor) -> Tensor:
        rows = self.table(input_ids)
        valid = (torch.arange(input_ids.shape[1]) < lengths[:, None])[..., None]
        logits: Tensor = rows + (rows * valid).sum(1, keepdim=True)
        return logits


def _references(bundle: Bundle) -> list[dict[str, Any]]:
    assert bundle.manifest.reference is not None
    document = json.loads((bundle.path / bundle.manifest.reference).read_text(encoding="utf-8"))
    assert document["dtype"] == "float32"
    found: list[dict[str, Any]] = document["prompts"]
    return found


def test_a_bundle_of_a_masked_language_model(tmp_path: Path) -> None:
    plan = masked_diffusion(3, num_steps=2)
    tokenizer = words(eos_token="<e>", pad_token="<p>", cls_token="<c>", mask_token="<m>")
    bundle = open_bundle(export({"denoiser": tiny_bert()}, plan, tmp_path / "b", tokenizer=tokenizer))
    bundle.verify()
    assert bundle.manifest.plan == plan and bundle.manifest.features == ("canvas-loop",)
    assert (bundle.manifest.model.vocab_size, bundle.manifest.model.context_length) == (96, 64)
    for text in _references(bundle):
        assert text["text"] is None, "the words of this tokenizer are none of ours"
        masked = [t for t, token in enumerate(text["prompt_ids"]) if token == 3]
        assert masked and text["rounds"] <= 2 and 3 not in text["token_ids"]
        assert len(text["confidence"]) == len(text["prompt_ids"]) == len(text["token_ids"])


def test_a_bundle_of_an_encoder_decoder(tmp_path: Path) -> None:
    model = tiny_marian()
    bundle = open_bundle(export({"encoder": model, "target": model}, ngram(), tmp_path / "b"))
    bundle.verify()
    manifest = bundle.manifest
    assert manifest.model.decoder_start_token_id == 0 and "encoder" in manifest.features
    assert manifest.reference == "reference/target.json"
    assert set(manifest.roles) == {"encoder", "target"}
    for text in _references(bundle):
        assert text["prompt_ids"] == [0]
        assert text["token_ids"] == translate(model, text["source_ids"], 32)[0]
        assert [row[0] for row in text["top_ids"]] == text["token_ids"]


def test_a_bundle_of_a_ctc_model(tmp_path: Path) -> None:
    bundle = open_bundle(export(tiny_ctc(), ctc(0, 2), tmp_path / "b"))
    bundle.verify()
    assert set(bundle.manifest.features) == {"one-shot-loop", "encoder"}
    assert bundle.manifest.model.family == "ctc" and bundle.manifest.model.context_length == 64
    texts = _references(bundle)
    assert all(max(text["source_ids"]) < 40 and 0 not in text["token_ids"] for text in texts)
    assert any(text["token_ids"] for text in texts)


def test_a_module_without_a_configuration_needs_facts(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="has no config with vocab_size"):
        export({"denoiser": Bare().eval()}, masked_diffusion(3), tmp_path / "b")
    facts = ModelFacts("bare", 20, 64)
    path = export({"denoiser": Bare().eval()}, masked_diffusion(3), tmp_path / "b", model_facts=facts)
    assert open_bundle(path).manifest.model == facts


def test_a_target_of_another_library_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="it must be a model of transformers"):
        export({"target": Bare().eval()}, autoregressive(), tmp_path / "b")


def foreign_exporter(source: RoleSource) -> TracedRole | None:
    """An exporter from another package, which knows one kind of module."""
    if not isinstance(source.module, Bare):
        return None
    return TracedRole(ir.Model(ir.Graph([], [], nodes=[]), ir_version=10), (CANVAS_IDS,), (OUTPUT_IDS,))


def test_exporters_of_other_packages_come_first_for_the_modules_that_they_know(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("canvas.denoiser", "tests.exporters.roles.test_base:foreign_exporter", roles.ENTRY_POINTS)

    def entry_points(group: str, name: str) -> list[EntryPoint]:
        return [entry] if (group, name) == (entry.group, entry.name) else []

    monkeypatch.setattr(roles, "entry_points", entry_points)
    plan = masked_diffusion(3)
    assert trace_role(RoleSource("denoiser", Bare(), plan)).outputs == (OUTPUT_IDS,)
    assert len(trace_role(RoleSource("denoiser", tiny_bert(), plan)).outputs) == 3


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(value: float, tmp_path: Path) -> None:
    model = copy.deepcopy(tiny_llama())
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight[3, 5] = value
    with pytest.raises(ExportError, match=r"model\.layers\.0\.mlp\.up_proj\.weight of the target holds 1 values"):
        export({"target": model}, autoregressive(), tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_large_weights_are_numbers() -> None:
    module = torch.nn.Linear(2, 2)
    torch.nn.init.constant_(module.weight, 3e38)  # of which not even two can be added
    roles.check_weights("target", module)
