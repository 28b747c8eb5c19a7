"""Targets that carry a layer for multi-token prediction: exported by the command, and drafting as their makers say."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoModelForCausalLM
from transformers.generation.candidate_generator import MTPCandidateGenerator

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.compiler.checking.check import check_bundle
from ptgc.errors import CheckpointError, ExportError
from ptgc.exporters.checkpoint.checkpoint import open_checkpoint
from ptgc.exporters.checkpoint.mtp_weights import find_mtp_weights
from ptgc.exporters.from_checkpoint import export_checkpoint, open_sources
from ptgc.exporters.strategies.base import exporter_of
from ptgc.runtime import Generator
from ptgc.spec.bundle import open_bundle
from ptgc.spec.strategies.mtp import MtpOptions, mtp
from ptgc.spec.tree import TreeSpec
from tests.drafted import drafted
from tests.drafter_checkpoints import NEW_TOKENS, Change, accepted_in_rounds, having, run, without
from tests.eagle import drafts
from tests.models import greedy, prompt, tiny_model
from tests.mtp import (
    CONFIGS,
    NAMES,
    Tensors,
    chained_drafts,
    family_drafts,
    family_layer,
    family_target,
    family_weights,
    layers_weights,
    mtp_drafter,
    mtp_layers,
    save_with,
    weights,
)


@cache
def exported(place: Path) -> Path:
    """A bundle and its build, by the public commands."""
    folder = save_with(tiny_model("llama"), weights(mtp_drafter(), "qwen"), place / "mtp-target")
    run("export", folder, "-o", place / "mtp", "--strategy", "mtp")
    run("build", place / "mtp", "--precision", "float32", "--max-length", 512, "--stage", "prepare")
    return place / "mtp"


def test_commands_run_and_check_it(place: Path) -> None:
    ids = prompt(5)
    given = ",".join(map(str, ids))
    made = run("run", exported(place), "--prompt-ids", given, "--max-new-tokens", NEW_TOKENS)
    assert made.strip() == ",".join(map(str, greedy(tiny_model("llama"), ids, NEW_TOKENS)))
    run("check", exported(place))
    assert "mtp" in run("inspect", exported(place))


def test_the_layer_drafts_token_by_token(place: Path) -> None:
    accepted = accepted_in_rounds(exported(place), lambda ids: drafts(tiny_model("llama"), mtp_drafter(), ids, 3))
    assert all(count in accepted for count in range(4))
    assert 0.3 < sum(accepted) / (3 * len(accepted)) < 0.9


@cache
def exported_layers(place: Path) -> Path:
    """A bundle with three layers, and its build, by the public commands."""
    folder = save_with(tiny_model("llama"), layers_weights(mtp_layers(), "deepseek"), place / "layers-target", 3)
    run("export", folder, "-o", place / "layers", "--strategy", "mtp")
    run("build", place / "layers", "--precision", "float32", "--max-length", 512, "--stage", "prepare")
    return place / "layers"


def test_several_layers_draft_a_token_each(place: Path) -> None:
    tensors = layers_weights(mtp_layers(), "deepseek")
    accepted = accepted_in_rounds(exported_layers(place), lambda ids: chained_drafts(tiny_model("llama"), tensors, ids))
    assert all(count in accepted for count in range(4))
    assert 0.3 < sum(accepted) / (3 * len(accepted)) < 0.9


def test_commands_run_and_check_several_layers(place: Path) -> None:
    ids = prompt(5)
    given = ",".join(map(str, ids))
    made = run("run", exported_layers(place), "--prompt-ids", given, "--max-new-tokens", NEW_TOKENS)
    assert made.strip() == ",".join(map(str, greedy(tiny_model("llama"), ids, NEW_TOKENS)))
    run("check", exported_layers(place))
    assert open_bundle(exported_layers(place)).manifest.plan == mtp(num_layers=3)


def test_several_layers_read_a_long_prompt_in_chunks(place: Path) -> None:
    ids, tensors = prompt(300), layers_weights(mtp_layers(), "deepseek")
    widest = open_bundle(exported_layers(place)).builds()[0].manifest.shapes.roles["drafter"].widths[-1]
    assert len(ids) > 2 * widest
    first = next(one for one in drafted(exported_layers(place), ids, 8).trace if one.drafted_ids)
    text = [*ids, *greedy(tiny_model("llama"), ids, 1)]
    assert first.drafted_ids == chained_drafts(tiny_model("llama"), tensors, text)


def test_several_layers_draft_a_tree(place: Path, tmp_path: Path) -> None:
    """Layer k gives the likeliest tokens of depth k behind the likeliest tokens of the layers before it."""
    tree = TreeSpec.branching(3, 2, 1)
    path = export_checkpoint(place / "layers-target", tmp_path / "b", {"tree": "3,2,1"}, strategy="mtp")
    build(path, BuildOptions(precision="float32", max_length=128, stage=Stage.PREPARE))
    target, ids, rounds = tiny_model("llama"), prompt(5), 0
    for one in drafted(path, ids).trace:
        if len(one.drafted_ids) == tree.num_nodes - 1:
            states = target.model(torch.tensor([ids[:-1]])).last_hidden_state
            best = mtp_layers()(torch.tensor([ids[1:]]), states, use_cache=False).logits[0].topk(3).indices
            assert one.drafted_ids == [int(best[tree.depths[node] - 1, tree.ranks[node]]) for node in range(1, 16)]
            rounds += 1
        ids = [*ids, *one.emitted_ids]
    assert rounds > 4


def read(folder: Path, notes: list[str] | None = None) -> dict[str, Any]:
    """The modules that are exported."""
    sources = open_sources(folder, MtpOptions())
    return exporter_of(sources.strategy).modules(sources, (notes if notes is not None else []).append)


@pytest.mark.parametrize("maker", NAMES)
@torch.no_grad()
def test_layouts_of_several_makers_are_read(tmp_path: Path, maker: str) -> None:
    target, notes = tiny_model("llama"), list[str]()
    copies = {"model.layers.3.embed_tokens.weight": torch.ones(512, 64)} if maker == "deepseek" else {}
    found = read(save_with(target, weights(mtp_drafter(), maker) | copies, tmp_path / "target"), notes)["drafter"]
    ids, states = torch.tensor([prompt(9)]), torch.randn(1, 9, 64)
    expected = mtp_drafter()
    states_out = expected(ids, states, use_cache=False).hidden_states
    if maker == "ernie":
        norm, expected.model.norm = expected.model.norm, nn.Identity()
        states_out = expected(ids, states, use_cache=False).hidden_states
        expected.model.norm = norm
    made = found(ids, states, use_cache=False)
    torch.testing.assert_close(made.hidden_states, states_out)
    torch.testing.assert_close(made.logits, target.lm_head(states_out))
    assert notes == []


def test_weights_have_the_targets_type_and_frequencies_are_not_rounded(tmp_path: Path) -> None:
    target = copy.deepcopy(tiny_model("llama")).to(torch.bfloat16)
    found = read(save_with(target, weights(mtp_drafter(), "mimo"), tmp_path / "target"))
    assert {one.dtype for one in found["drafter"].parameters()} == {found["target"].dtype}
    frequencies = [found[name].model.rotary_emb.inv_freq for name in ("target", "drafter")]
    assert torch.equal(*frequencies) and frequencies[0].dtype is torch.float32


@pytest.mark.parametrize("family", CONFIGS)
def test_drafts_are_those_of_transformers(tmp_path: Path, family: str) -> None:
    target = family_target(family)
    layer = family_layer(target)
    found = read(save_with(target, family_weights(layer, family), tmp_path / "target"))
    for length in (2, 9, 40):
        ids = prompt(length)
        assert drafts(found["target"], found["drafter"], ids, 3) == family_drafts(target, layer, ids, 3)


@pytest.mark.parametrize(("family", "num_layers"), [("mellum", 1), ("glm4_moe", 3)])
def test_every_round_drafts_what_transformers_drafts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, num_layers: int
) -> None:
    target = family_target(family, num_layers)
    layers = family_layer(target, num_layers)
    tensors = {k: v for one in range(num_layers) for k, v in family_weights(layers, family, one).items()}
    folder = save_with(target, tensors, tmp_path / "target", num_layers)
    path = export_checkpoint(folder, tmp_path / "b", MtpOptions(num_layers))
    build(path, BuildOptions(precision="float32", max_length=128, stage=Stage.PREPARE))
    expected: dict[int, list[int]] = {}
    draft = MTPCandidateGenerator.get_candidates

    def watched(self: Any, input_ids: Any, *others: Any, **named: Any) -> Any:
        made = draft(self, input_ids, *others, **named)
        if made[0].shape[1] > input_ids.shape[1]:
            expected[input_ids.shape[1]] = made[0][0, input_ids.shape[1] :].tolist()
        return made

    monkeypatch.setattr(MTPCandidateGenerator, "get_candidates", watched)
    read_again: Any = AutoModelForCausalLM.from_pretrained(folder)
    read_again._keys_to_ignore_on_load_unexpected = target._keys_to_ignore_on_load_unexpected
    ids = prompt(9)
    text = read_again.generate(torch.tensor([ids]), use_mtp=True, max_new_tokens=24, do_sample=False)[0].tolist()
    with Generator(path, draft_length="fixed") as generator:
        result = generator.generate(ids, max_new_tokens=24, trace=True)
    assert ids + result.token_ids == text
    found = {}
    for one in result.trace:
        if len(one.drafted_ids) == num_layers:
            found[len(ids)] = one.drafted_ids
        ids = [*ids, *one.emitted_ids]
    assert all(report.passed for report in check_bundle(path))
    same = found.keys() & expected.keys()
    assert len(same) > 15
    assert {length: found[length] for length in same} == {length: expected[length] for length in same}


def _twice(tensors: Tensors) -> Tensors:
    return {name.replace("layers.0", "layers.1"): one.clone() for name, one in tensors.items()} | tensors


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (
            lambda _: {},
            ExportError,
            r"none of model\.layers\.3\.eh_proj\.weight \(DeepSeek-V3.*mtp\.fc\.weight .*"
            r"model\.mtp_layers\.0\.input_proj.*config\.json says num_nextn_predict_layers 1",
        ),
        (_twice, CheckpointError, "has weights of 2 layers for .*; its config.json says num_nextn_predict_layers 1"),
        (
            lambda tensors: without("mtp.layers.1.mlp.up_proj.weight", "mtp.norm.weight")(_twice(tensors)),
            CheckpointError,
            r"not those of 2 layers .*; missing: mtp\.layers\.1\.mlp\.up_proj\.weight, mtp\.norm\.weight\.",
        ),
        (
            without("mtp.norm.weight", "mtp.layers.0.mlp.up_proj.weight"),
            CheckpointError,
            r"missing: mtp\.layers\.0\.mlp\.up_proj\.weight, mtp\.norm\.weight\.",
        ),
        (having(**{"mtp.layers.0.extra": torch.ones(2)}), CheckpointError, r"unexpected: mtp\.layers\.0\.extra"),
        (having(**{"mtp.fc.weight": torch.ones(64, 100)}), CheckpointError, r"fc\.weight is \[64, 100\]"),
        (
            having(**{"mtp.layers.0.mlp.up_proj.weight": torch.ones(9, 64), "mtp.norm.weight": torch.ones(9)}),
            CheckpointError,
            r"model\.layers\.0\.mlp\.up_proj\.weight is \[9, 64\].*model\.norm\.weight is \[9\]",
        ),
    ],
)
def test_targets_without_such_a_layer_or_with_another_are_refused(
    tmp_path: Path, change: Change, error: type[Exception], said: str
) -> None:
    folder = save_with(tiny_model("llama"), change(weights(mtp_drafter(), "qwen")), tmp_path / "target")
    with pytest.raises(error, match=said):
        export_checkpoint(folder, tmp_path / "b", MtpOptions())
    assert not (tmp_path / "b").exists()


def test_layers_may_share_a_projection(tmp_path: Path) -> None:
    folder = save_with(tiny_model("llama"), _twice(weights(mtp_drafter(), "qwen")), tmp_path / "target", 2)
    first, second = read(folder)["drafter"].layers
    assert first.fc is second.fc
    assert torch.equal(first.model.layers[0].mlp.up_proj.weight, second.model.layers[0].mlp.up_proj.weight)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"num_draft_tokens": 4}, "tree is 4 tokens deep; a run of the drafter drafts 3"),
        ({"lookup": "ngram"}, "--lookup is ngram; with 3 layers for multi-token prediction"),
    ],
)
def test_options_that_several_layers_have_not_are_refused(
    place: Path, tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    exported_layers(place)
    with pytest.raises(ExportError, match=said):
        export_checkpoint(place / "layers-target", tmp_path / "b", options, strategy="mtp")


@pytest.mark.parametrize(
    ("given", "said"), [({"gguf_file": Path("x.gguf")}, "GGUF"), ({"packed": object()}, "quantised")]
)
def test_such_a_layer_is_not_looked_for_in_other_formats(tmp_path: Path, given: dict[str, Any], said: str) -> None:
    checkpoint = open_checkpoint(save_with(tiny_model("llama"), {}, tmp_path / "target"))
    with pytest.raises(ExportError, match=f"is .*{said}.*; weights for multi-token prediction are read from"):
        find_mtp_weights(replace(checkpoint, **given))
