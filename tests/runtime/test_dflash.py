"""Checkpoints of DFlash drafters: exported by the command, and round by round as z-lab and transformers draft."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import MuseGlimmerAssistantConfig, MuseGlimmerAssistantModel, Qwen3Config
from transformers.generation import candidate_generator

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.errors import CheckpointError, ExportError
from ptgc.exporters.checkpoint.drafter_weights import read_tensors
from ptgc.exporters.from_checkpoint import export_checkpoint
from ptgc.exporters.modules.dflash import DFlashDrafter, anchored_blocks
from ptgc.exporters.strategies.dflash import EXPORTER, dflash_drafter, read_dflash_settings
from ptgc.spec.bundle import open_bundle
from ptgc.spec.strategies.dflash import DflashOptions
from ptgc.spec.tree import TreeSpec
from tests.cli.test_commands import run
from tests.dflash import BLOCK, MASK, TARGET_LAYERS, Tensors, block_logits, config, drafts, states_of, weights
from tests.dflash import dflash_drafter as tiny_drafter
from tests.drafted import drafted
from tests.drafter_checkpoints import Change, check_refused, having, target_folder, without, write
from tests.models import VOCAB_SIZE, greedy, prompt, tiny_model


def settings() -> dict[str, Any]:
    """A config.json as z-lab has it."""
    made: dict[str, Any] = config().to_diff_dict()
    nested = {"mask_token_id": MASK, "target_layer_ids": list(TARGET_LAYERS)}
    architectures = {"architectures": ["DFlashDraftModel"]}
    return made | architectures | {"block_size": BLOCK, "num_target_layers": 3, "dflash_config": nested}


@cache
def exported(place: Path) -> Path:
    drafter, path = write(place / "dflash-drafter", weights(), settings()), place / "dflash"
    made = run("export", target_folder(place), "-o", path, "--strategy", "dflash", "--drafter", drafter)
    assert made.exit_code == 0, made.output
    build(path, BuildOptions(precision="float32", max_length=512, stage=Stage.PREPARE))
    return path


@pytest.mark.parametrize("length", [1, 5, 40])
def test_every_round_drafts_what_the_paper_says(place: Path, length: int) -> None:
    ids = prompt(length)
    rounds, accepted, rejected = 0, 0, set[int]()
    for one in drafted(exported(place), ids).trace:
        if len(one.drafted_ids) == BLOCK - 1:
            assert one.drafted_ids == drafts(tiny_model("llama"), weights(), ids)
            rounds, accepted = rounds + 1, accepted + one.accepted
            rejected.add(one.accepted)
        ids = [*ids, *one.emitted_ids]
    assert rounds > 4
    assert 0.25 < accepted / (rounds * (BLOCK - 1)) < 0.9


def test_drafts_are_rejected_at_every_depth(place: Path) -> None:
    rounds = [one for length in (1, 5, 40) for one in drafted(exported(place), prompt(length)).trace]
    full = [one.accepted for one in rounds if len(one.drafted_ids) == BLOCK - 1]
    assert set(full) == set(range(BLOCK))


def test_a_long_prompt_is_read_in_chunks(place: Path) -> None:
    ids = prompt(300)
    widest = open_bundle(exported(place)).builds()[0].manifest.shapes.roles["drafter"].widths[-1]
    assert len(ids) > 2 * widest
    first = next(one for one in drafted(exported(place), ids, 8).trace if one.drafted_ids)
    assert first.drafted_ids == drafts(tiny_model("llama"), weights(), [*ids, *greedy(tiny_model("llama"), ids, 1)])


def assistant() -> MuseGlimmerAssistantModel:
    """The same drafter as transformers has such."""
    made: Any = config()
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    shape = {name: getattr(made, name) for name in (*names, "head_dim", "rms_norm_eps", "max_position_embeddings")}
    model = MuseGlimmerAssistantModel(
        MuseGlimmerAssistantConfig(
            **shape,
            rope_parameters=made.rope_parameters,
            layer_types=["full_attention"] * made.num_hidden_layers,
            block_size=BLOCK,
            mask_token_id=MASK,
            target_layer_ids=list(TARGET_LAYERS),
        )
    )
    names_there = {"fc.weight": "encoder.fc.weight", "hidden_norm.weight": "encoder.output_norm_enc.weight"}
    model.load_state_dict({names_there.get(name, name): tensor for name, tensor in weights().items()})
    return model.eval()


@pytest.mark.parametrize("length", [1, 5, 40])
def test_transformers_accepts_as_many_drafts(place: Path, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    generator = candidate_generator.DFlashTokenCandidateGenerator
    update = generator.update_candidate_strategy

    def record(self: Any, input_ids: Any, scores: Any, num_matches: int) -> None:
        found.append(int(num_matches))
        update(self, input_ids, scores, num_matches)

    monkeypatch.setattr(generator, "update_candidate_strategy", record)
    ids = prompt(length)
    text = tiny_model("llama").generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        max_new_tokens=40,
        do_sample=False,
        pad_token_id=0,
        speculation_type="dflash",
        assistant_model=assistant(),
    )
    result = drafted(exported(place), ids)
    assert text[0, len(ids) :].tolist() == result.token_ids
    # Theirs drafts nothing in its first round, either; the last may be cut differently.
    accepted = [one.accepted for one in result.trace if one.emitted_ids]
    assert accepted[:-1] == found[: len(accepted) - 1]


def made_of(folder: Path) -> DFlashDrafter:
    """The module of a checkpoint."""
    opened = EXPORTER.open_others(DflashOptions(str(folder)), trust_remote_code=False)["drafter"]
    assert isinstance(opened.config, Qwen3Config)
    return dflash_drafter(tiny_model("llama"), opened.config, read_dflash_settings(opened), read_tensors(opened))


def test_a_checkpoint_of_transformers_is_the_same_drafter(tmp_path: Path) -> None:
    assistant().save_pretrained(tmp_path / "assistant")
    one = made_of(write(tmp_path / "drafter", weights(), settings())).state_dict()
    other = made_of(tmp_path / "assistant").state_dict()
    assert one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_tree_takes_the_likeliest_tokens_of_every_row(place: Path, tmp_path: Path) -> None:
    """Of those that the drafter knows; their rows of the head are the target's."""
    known = torch.tensor([token for token in range(VOCAB_SIZE) if token % 16 != 5])
    drafter = write(tmp_path / "drafter", weights() | {"d2t": known - torch.arange(len(known))}, settings())
    options = {"drafter": str(drafter), "tree": "3,2,1"}
    path = export_checkpoint(target_folder(place), tmp_path / "b", options, strategy="dflash")
    tree, ids, rounds = TreeSpec.branching(3, 2, 1), prompt(5), 0
    assert open_bundle(path).manifest.plan.tree == tree
    build(path, BuildOptions(precision="float32", max_length=512, stage=Stage.PREPARE))
    for one in drafted(path, ids).trace:
        if len(one.drafted_ids) == tree.num_nodes - 1:
            best = known[block_logits(tiny_model("llama"), weights(), ids)[:, known].topk(3).indices]
            wanted = [int(best[tree.depths[node] - 1, tree.ranks[node]]) for node in range(1, tree.num_nodes)]
            assert one.drafted_ids == wanted
            rounds += 1
        ids = [*ids, *one.emitted_ids]
    assert rounds > 4
    head = {"lm_head.weight": tiny_model("llama").get_output_embeddings().weight[known]}
    own = made_of(write(tmp_path / "own", weights() | head | {"d2t": known - torch.arange(len(known))}, settings()))
    heads = [one.state_dict()["lm_head.weight"] for one in (own, made_of(drafter))]
    assert torch.equal(*heads)


def test_layers_may_see_a_part_of_the_text(place: Path, tmp_path: Path) -> None:
    """Layers of transformers see one token more than their window."""
    slides = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 8}
    own = made_of(write(tmp_path / "own", weights(), settings() | slides | {"is_causal": False}))
    assert own.config.sliding_window == 8
    drafter = write(tmp_path / "drafter", weights(), settings() | slides | {"model_type": "muse_glimmer_assistant"})
    options = DflashOptions(str(drafter), num_draft_tokens=3)
    path = export_checkpoint(target_folder(place), tmp_path / "b", options)
    build(path, BuildOptions(precision="float32", max_length=512, stage=Stage.PREPARE))
    ids, rounds = prompt(5), 0
    for one in drafted(path, ids, 80).trace:
        if len(one.drafted_ids) == 3:
            logits = block_logits(tiny_model("llama"), weights(), ids, (9, 1 << 20))
            assert one.drafted_ids == logits[:3].argmax(dim=-1).tolist()
            rounds += 1
        ids = [*ids, *one.emitted_ids]
    assert rounds > 10


def speculators() -> tuple[Tensors, dict[str, Any]]:
    """A checkpoint as vllm-project/speculators has it: of some tokens only, with a copy of the target's embedding."""
    known = torch.tensor([token for token in range(VOCAB_SIZE) if token % 16 != 5])
    target = tiny_model("llama")
    tensors = weights() | {
        "embed_tokens.weight": target.get_input_embeddings().weight,
        "lm_head.weight": target.get_output_embeddings().weight[known],
        "d2t": known - torch.arange(len(known)),
        "t2d": torch.isin(torch.arange(VOCAB_SIZE), known),
    }
    slides = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 9, "use_sliding_window": True}
    configuration = {
        "architectures": ["DFlashDraftModel"],
        "speculators_model_type": "dflash",
        "speculators_config": {"algorithm": "dflash", "default_proposal_method": "greedy"},
        "transformer_layer_config": config().to_diff_dict() | slides,
        "draft_vocab_size": len(known),
        "block_size": BLOCK,
        "aux_hidden_state_layer_ids": [layer + 1 for layer in TARGET_LAYERS],
        "mask_token_id": MASK,
        "sliding_window_non_causal": False,
        "sample_from_anchor": False,
    }
    return tensors, configuration


@pytest.mark.parametrize("batch_size", [1, 2])
def test_rows_of_layers_with_windows_see_no_later_rows(place: Path, tmp_path: Path, batch_size: int) -> None:
    drafter, path = write(tmp_path / "drafter", *speculators()), place / "dflash-speculators"
    if not path.exists():
        export_checkpoint(target_folder(place), path, DflashOptions(str(drafter)))
        assert made_of(drafter).model.embed_tokens is tiny_model("llama").get_input_embeddings()
    options = BuildOptions(precision="float32", batch_size=batch_size, max_length=128, stage=Stage.PREPARE)
    name = build(path, options).manifest.id
    known, rounds, unlike = speculators()[0]["t2d"], 0, 0
    ids = prompt(5)
    for one in drafted(path, ids, 60, name).trace:
        if len(one.drafted_ids) == BLOCK - 1:
            found = [
                block_logits(tiny_model("llama"), weights(), ids, (9, 1 << 20), causal)[:, known].argmax(dim=-1)
                for causal in ((0,), ())
            ]
            assert one.drafted_ids == torch.nonzero(known)[found[0], 0].tolist()
            rounds, unlike = rounds + 1, unlike + int(not torch.equal(*found))
        ids = [*ids, *one.emitted_ids]
    assert rounds > 5 and unlike > 0


@pytest.mark.parametrize(
    ("changed", "causal"),
    [
        ({"sliding_window_non_causal": True}, ()),
        ({"is_causal": True}, (0, 1)),
        ({"dflash_config": {"causal": True}}, (0, 1)),
        ({"dflash_config": {"is_causal": False}}, ()),
        ({}, (0,)),
    ],
)
def test_a_configuration_says_which_layers_are_causal(
    tmp_path: Path, changed: dict[str, Any], causal: tuple[int, ...]
) -> None:
    tensors, configuration = speculators()
    made = made_of(write(tmp_path / "drafter", tensors, configuration | changed))
    assert tuple(index for index, layer in enumerate(made.model.layers) if layer.self_attn.is_causal) == causal


@torch.no_grad()
def test_blocks_for_training_are_those_of_drafting() -> None:
    text, anchors = [*prompt(5), *greedy(tiny_model("llama"), prompt(5), 20)], [0, 4, 12]
    ids, drafter = torch.tensor([text]), tiny_drafter()
    states = drafter.tap.project(states_of(tiny_model("llama"), ids))
    rows = anchored_blocks(ids, states, torch.tensor([anchors]), BLOCK, MASK)
    logits = drafter(**rows, use_cache=False).logits[0, len(text) :].view(len(anchors), BLOCK, VOCAB_SIZE)
    for found, anchor in zip(logits, anchors, strict=True):
        expected = block_logits(tiny_model("llama"), weights(), text[: anchor + 1])
        torch.testing.assert_close(found[1:], expected, rtol=1e-3, atol=1e-3)


def test_embedding_and_head_are_stored_once(place: Path) -> None:
    drafter = sum(file.stat().st_size for file in (exported(place) / "graphs").glob("drafter*"))
    assert drafter < sum(one.numel() * 4 for one in weights().values()) + VOCAB_SIZE * 64 * 4 / 2


def test_the_command_runs_checks_and_inspects(place: Path) -> None:
    told = ("run", exported(place), "--prompt-ids", ",".join(map(str, prompt(9))), "--max-new-tokens", 12, "--json")
    texts = [json.loads(run(*told, *plain).stdout)["token_ids"] for plain in ((), ("--plain",))]
    assert texts[0] == texts[1] == greedy(tiny_model("llama"), prompt(9), 12)
    checked = run("check", exported(place), "--model", target_folder(place))  # the drafter is not asked for
    assert checked.exit_code == 0, checked.output
    assert "dflash" in run("inspect", exported(place)).stdout


def _nested(**changed: Any) -> dict[str, Any]:
    return {"dflash_config": settings()["dflash_config"] | changed}


@pytest.mark.parametrize(
    ("change", "configuration", "error", "said"),
    [
        (
            without("fc.weight", "layers.1.mlp.up_proj.weight"),
            {},
            CheckpointError,
            r"lack 2 tensors, missing: model\.layers\.1\.mlp\.up_proj\.weight, tap\.project\.fc\.weight",
        ),
        (having(**{"layers.0.extra": torch.ones(2)}), {}, CheckpointError, "unexpected: model.layers.0.extra"),
        (having(**{"norm.weight": torch.ones(3)}), {}, CheckpointError, r"norm\.weight is \[3\]"),
        (having(d2t=-torch.arange(4)), {}, ExportError, "d2t names a token twice"),
        (
            without(),
            {"hidden_size": 32, "num_target_layers": 8},
            ExportError,
            "size is 32, the target's 64; it was made",
        ),
        (without(), _nested(target_layer_ids=[0, 3]), ExportError, r"reads the layers \[0, 3\]; the target has 3"),
        (without(), _nested(mask_token_id=VOCAB_SIZE), ExportError, "mask token is 512; the target has 512 tokens"),
        (
            without(),
            _nested(target_layer_ids=[1, 0], mask_token_id=None) | {"block_size": 1},
            CheckpointError,
            r"no mask_token_id; target_layer_ids is \[1, 0\]; .*; block_size is 1",
        ),
        (
            without(),
            _nested(output_multiplier=0.5),
            CheckpointError,
            "output_multiplier is 0.5, which is not supported",
        ),
        (
            without(),
            {"dflash_config": {"mask_token_id": MASK}, "aux_hidden_state_layer_ids": [0, "2"]},
            CheckpointError,
            r"target_layer_ids is \[0, '2'\]; it must be a list of layers",
        ),
    ],
)
def test_drafters_of_other_targets_and_damaged_ones_are_refused(
    place: Path,
    tmp_path: Path,
    change: Change,
    configuration: dict[str, Any],
    error: type[Exception],
    said: str,
) -> None:
    folder = write(tmp_path / "drafter", change(weights()), settings() | configuration)
    check_refused(place, DflashOptions(str(folder)), error, said)


def test_more_drafts_than_a_block_has_are_refused(place: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "drafter", weights(), settings())
    with pytest.raises(ExportError, match="is 5 tokens deep; a run of the drafter drafts 4"):
        export_checkpoint(target_folder(place), tmp_path / "b", DflashOptions(str(folder), num_draft_tokens=BLOCK))
