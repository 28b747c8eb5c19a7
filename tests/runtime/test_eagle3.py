"""Checkpoints of EAGLE-3 drafters: exported by the command, and round by round as the paper's loop drafts."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.errors import CheckpointError, ExportError
from ptgc.exporters.from_checkpoint import export_checkpoint
from ptgc.exporters.modules.eagle3 import Eagle3Layer
from ptgc.runtime import Generator
from ptgc.runtime.costs import CostCurve, RoundCost, write_costs
from ptgc.spec.bundle import open_bundle
from ptgc.spec.strategies.eagle3 import Eagle3Options
from ptgc.spec.tree import TreeSpec
from tests.cli.test_commands import run
from tests.drafted import drafted
from tests.drafter_checkpoints import (
    NEW_TOKENS,
    Change,
    Tensors,
    accepted_in_rounds,
    check_refused,
    having,
    target_folder,
    without,
    write,
)
from tests.dynamic_tree import dynamic_drafts, paths_of
from tests.eagle import DRAFTED_IDS, TAP_LAYERS, drafts, eagle3_drafter, eagle_score
from tests.models import VOCAB_SIZE, greedy, prompt, tiny_model


def weights(layer: str = "midlayer") -> Tensors:
    """The drafter as SafeAILab/EAGLE names its tensors, or with `layers.0` as vllm-project/speculators does."""
    drafter = eagle3_drafter()
    ids = torch.tensor(DRAFTED_IDS)
    body = drafter.model.layers[0].state_dict()
    return {
        "fc.weight": drafter.tap.project.state_dict()["weight"],
        **{f"{layer}.{name}": tensor for name, tensor in body.items()},
        "norm.weight": drafter.norm.weight,
        "lm_head.weight": drafter.lm_head.weight,
        "d2t": ids - torch.arange(len(ids)),
        "t2d": torch.isin(torch.arange(VOCAB_SIZE), ids),
    }


def settings() -> dict[str, Any]:
    """Its config.json."""
    made: dict[str, Any] = eagle3_drafter().config.to_diff_dict()
    layers = {"eagle_aux_hidden_state_layer_ids": list(TAP_LAYERS)}
    return made | {"architectures": ["LlamaForCausalLMEagle3"], "draft_vocab_size": len(DRAFTED_IDS)} | layers


@cache
def exported(place: Path) -> Path:
    drafter = write(place / "eagle3-drafter", weights(), settings())
    path = export_checkpoint(target_folder(place), place / "eagle3", Eagle3Options(str(drafter), 4))
    build(path, BuildOptions(precision="float32", max_length=512, stage=Stage.PREPARE))
    return path


def test_every_round_drafts_what_the_paper_says(place: Path) -> None:
    expected = partial(drafts, tiny_model("llama"), eagle3_drafter(), count=4)
    accepted = accepted_in_rounds(exported(place), expected, count=4)
    assert len(accepted) > 12
    assert 0.2 < sum(accepted) / (4 * len(accepted)) < 0.9


def test_other_layouts_are_the_same_drafter(place: Path, tmp_path: Path) -> None:
    folders = (
        write(tmp_path / "layers", weights("layers.0"), settings()),
        write(tmp_path / "nested", weights(), {"transformer_layer_config": settings()}),
        write(tmp_path / "pickled", weights(), settings(), file="pytorch_model.bin"),
    )
    for folder in folders:
        path = export_checkpoint(target_folder(place), tmp_path / f"{folder.name}-b", Eagle3Options(str(folder), 4))
        assert open_bundle(path).manifest.files == open_bundle(exported(place)).manifest.files


def test_a_tree_is_drafted_where_one_is_asked_for(place: Path, tmp_path: Path) -> None:
    drafter = write(tmp_path / "drafter", weights(), settings())
    tree = TreeSpec.branching(2, 2, 1)
    path = export_checkpoint(
        target_folder(place), tmp_path / "b", {"drafter": str(drafter), "tree": "2,2,1"}, strategy="eagle3"
    )
    manifest = open_bundle(path).manifest
    assert manifest.plan.tree == tree
    assert manifest.provenance["arguments"]["tree"] == list(tree.parents)
    build(path, BuildOptions(precision="float32", max_length=512, stage=Stage.PREPARE))
    ids = prompt(5)
    result = drafted(path, ids, NEW_TOKENS)
    best = drafts(tiny_model("llama"), eagle3_drafter(), ids + result.trace[0].emitted_ids, 1)
    assert result.trace[1].drafted_ids[0] == best[0] and len(result.trace[1].drafted_ids) == 10


@pytest.mark.parametrize("length", [5, 40])
def test_a_dynamic_tree_has_the_likeliest_drafts(place: Path, length: int) -> None:
    tree, ids, rounds, accepted = TreeSpec.branching(3, 1, 1), prompt(length), 0, 0
    for one in drafted(dynamic(place), ids, NEW_TOKENS).trace:
        if len(one.drafted_ids) == tree.num_nodes - 1:
            score = partial(eagle_score, tiny_model("llama"), eagle3_drafter(), ids)
            assert paths_of(one.parents, one.drafted_ids) == dynamic_drafts(score, tree)
            rounds, accepted = rounds + 1, accepted + one.accepted
        ids = [*ids, *one.emitted_ids]
    assert rounds > 4
    assert accepted > rounds


@cache
def dynamic(place: Path) -> Path:
    drafter = write(place / "eagle3-of-dynamic", weights(), settings())
    path = place / "eagle3-dynamic"
    shape = ("--tree", "3,1,1", "--dynamic-tree")
    made = run("export", target_folder(place), "-o", path, "--strategy", "eagle3", "--drafter", drafter, *shape)
    assert made.exit_code == 0, made.output
    build(path, BuildOptions(precision="float32", max_length=512, stage=Stage.PREPARE))
    return path


def test_a_dynamic_tree_is_verified_as_far_as_it_pays(place: Path) -> None:
    made = open_bundle(dynamic(place)).builds()[0]
    shapes = made.manifest.shapes.roles
    rounds = {width: RoundCost(1 + 0.25 * width, 1, 1, 9) for width in shapes["target"].widths}
    reads = {width: RoundCost(0.02, 0.02, 0.02, 9) for width in shapes["drafter"].widths}
    costs = write_costs(made, CostCurve(1, 8, rounds, reads))
    try:
        with Generator(dynamic(place)) as generator:
            result = generator.generate(prompt(5), max_new_tokens=NEW_TOKENS, trace=True)
    finally:
        costs.unlink()
    assert result.token_ids == greedy(tiny_model("llama"), prompt(5), NEW_TOKENS)
    assert len({len(one.drafted_ids) for one in result.trace}) > 3
    assert result.statistics.accepted_tokens > 10


@torch.no_grad()
def test_a_checkpoint_may_normalise_the_residual() -> None:
    config = eagle3_drafter().config
    pairs = torch.randn(1, 5, 2 * config.hidden_size, generator=torch.Generator().manual_seed(1))
    made = {}
    for normalises in (False, True):
        torch.manual_seed(2)
        given: dict[str, Any] = config.to_diff_dict() | {"norm_before_residual": normalises}
        layer = Eagle3Layer(LlamaConfig(**given))
        for part in (layer.self_attn.o_proj, layer.mlp.down_proj):
            torch.nn.init.zeros_(part.weight)  # what is left is the residual
        positions = LlamaRotaryEmbedding(config)(pairs, torch.arange(5)[None])
        made[normalises] = layer(pairs, position_embeddings=positions, attention_mask=None)
    states = pairs[..., config.hidden_size :]
    torch.testing.assert_close(made[False], states)
    torch.testing.assert_close(made[True], states / states.pow(2).mean(-1, keepdim=True).sqrt(), rtol=1e-4, atol=1e-4)


def test_the_embedding_is_stored_once(place: Path) -> None:
    drafter = sum(file.stat().st_size for file in (exported(place) / "graphs").glob("drafter*"))
    embedding = tiny_model("llama").get_input_embeddings().weight
    assert drafter < sum(one.numel() * 4 for one in weights().values()) + embedding.numel() * 4


@pytest.mark.parametrize(
    ("change", "config", "error", "said"),
    [
        (without("fc.weight"), {}, CheckpointError, "lack fc.weight"),
        (
            without("midlayer.hidden_norm.weight", "norm.weight"),
            {},
            CheckpointError,
            r"lack 2 tensors, missing: model\.layers\.0\.hidden_norm\.weight, norm\.weight",
        ),
        (having(**{"midlayer.extra": torch.ones(2)}), {}, CheckpointError, "unexpected: model.layers.0.extra"),
        (having(**{"norm.weight": torch.ones(3)}), {}, CheckpointError, r"norm\.weight is \[3\]"),
        (having(**{"fc.weight": torch.ones(64, 100)}), {}, ExportError, "reads 100 numbers of the target's layers"),
        (having(d2t=torch.full((len(DRAFTED_IDS),), VOCAB_SIZE)), {}, ExportError, "d2t names tokens from 512 to"),
        (having(d2t=-torch.arange(len(DRAFTED_IDS))), {}, ExportError, "d2t names a token twice"),
        (having(d2t=torch.zeros(3)), {}, ExportError, r"its d2t, \[3\], says which"),
        (without("d2t"), {}, ExportError, "drafts 480 of 512 tokens, and has no d2t"),
        (without(), {"hidden_size": 32}, ExportError, "hidden size is 32, the target's 64"),
        (without(), {"eagle_aux_hidden_state_layer_ids": [0, 1, 9]}, ExportError, r"reads layers \[0, 1, 9\]"),
    ],
)
def test_drafters_of_other_targets_and_damaged_ones_are_refused(
    place: Path,
    tmp_path: Path,
    change: Change,
    config: dict[str, Any],
    error: type[Exception],
    said: str,
) -> None:
    folder = write(tmp_path / "drafter", change(weights()), settings() | config)
    check_refused(place, Eagle3Options(str(folder)), error, said)


def test_a_pickle_of_more_than_tensors_is_refused(place: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "drafter", {"code": Path("x")}, settings(), file="pytorch_model.bin")  # type: ignore[dict-item]
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        export_checkpoint(target_folder(place), tmp_path / "b", Eagle3Options(str(folder)))


@pytest.mark.parametrize("name", ["nothing", "file"])
def test_what_is_no_drafter_is_refused(place: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="Cannot open"):
        export_checkpoint(target_folder(place), tmp_path / "b", Eagle3Options(str(tmp_path / name)))
