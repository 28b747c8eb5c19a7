"""Drafters that fill masks after the text, exported by the command, and round by round as PARD's loop drafts."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.errors import CheckpointError
from ptgc.exporters.checkpoint.checkpoint import open_checkpoint
from ptgc.exporters.from_checkpoint import export_checkpoint
from ptgc.exporters.strategies.pard import mask_token
from ptgc.spec.attention import AttentionKind
from ptgc.spec.bundle import open_bundle
from ptgc.spec.strategies.pard import PardOptions, pard
from ptgc.spec.tree import TreeSpec
from tests.cli.test_commands import run
from tests.drafted import drafted
from tests.dynamic_tree import likeliest_paths, paths_of
from tests.models import VOCAB_SIZE, greedy, prompt, save, tiny_model
from tests.pard import DRAFTS, MASK, draft_logits, drafts, pard_drafter


@cache
def folders(place: Path) -> tuple[Path, Path]:
    """The target's checkpoint, and the drafter's."""
    found = place / "pard-target", place / "pard-drafter"
    return save(tiny_model("llama"), found[0]), save(pard_drafter(), found[1])


@cache
def exported(place: Path, tree: TreeSpec | None = None) -> Path:
    target, drafter = folders(place)
    path = place / f"pard-{tree is None}"
    shape = ("--num-draft-tokens", DRAFTS) if tree is None else ("--tree", "2,2,1")
    made = run("export", target, "-o", path, "--strategy", "pard", "--drafter", drafter, *shape)
    assert made.exit_code == 0, made.output
    build(path, BuildOptions(precision="float32", max_length=512, stage=Stage.PREPARE))
    return path


@pytest.mark.parametrize("length", [1, 5, 40])
def test_every_round_drafts_what_one_run_says(place: Path, length: int) -> None:
    ids, rounds, accepted = prompt(length), 0, 0
    for one in drafted(exported(place), ids).trace:
        if one.drafted_ids:
            assert one.drafted_ids == drafts(pard_drafter(), ids, len(one.drafted_ids))
            rounds, accepted = rounds + 1, accepted + one.accepted
        ids = [*ids, *one.emitted_ids]
    assert rounds > 4
    assert 0.25 < accepted / (rounds * DRAFTS) < 0.9


def test_drafts_are_rejected_at_every_depth(place: Path) -> None:
    rounds = [one for length in (1, 5, 40) for one in drafted(exported(place), prompt(length)).trace]
    assert {one.accepted for one in rounds if len(one.drafted_ids) == DRAFTS} == set(range(DRAFTS + 1))


def test_a_long_prompt_is_read_in_chunks(place: Path) -> None:
    ids = prompt(300)
    assert len(ids) > 2 * open_bundle(exported(place)).builds()[0].manifest.shapes.roles["drafter"].widths[-1]
    first = next(one for one in drafted(exported(place), ids, 8).trace if one.drafted_ids)
    assert first.drafted_ids == drafts(pard_drafter(), ids)  # in the round that reads the end of the prompt


def test_a_tree_takes_the_likeliest_tokens_of_every_row(place: Path) -> None:
    tree, ids, rounds = TreeSpec.branching(2, 2, 1), prompt(5), 0
    manifest = open_bundle(exported(place, tree)).manifest
    assert manifest.plan == pard(MASK, tree=tree)
    assert manifest.roles["drafter"].attention is AttentionKind.CAUSAL  # its rows are text in order
    for one in drafted(exported(place, tree), ids).trace:
        if len(one.drafted_ids) == tree.num_nodes - 1:
            best = draft_logits(pard_drafter(), ids, 3).topk(2).indices
            wanted = [int(best[tree.depths[node] - 1, tree.ranks[node]]) for node in range(1, tree.num_nodes)]
            assert one.drafted_ids == wanted
            rounds += 1
        ids = [*ids, *one.emitted_ids]
    assert rounds > 4


def test_a_dynamic_tree_has_the_likeliest_paths(place: Path) -> None:
    target, drafter = folders(place)
    path, ids, sizes = place / "pard-dynamic", prompt(5), []
    made = run(
        *("export", target, "-o", path, "--strategy", "pard", "--drafter", drafter, "--tree", "3,1,1", "--dynamic-tree")
    )
    assert made.exit_code == 0, made.output
    build(path, BuildOptions(precision="float32", max_length=512, stage=Stage.PREPARE))
    for one in drafted(path, ids).trace:
        if len(one.drafted_ids) == 9:
            assert paths_of(one.parents, one.drafted_ids) == likeliest_paths(draft_logits(pard_drafter(), ids, 3), 9)
            sizes.append(one.accepted)
        ids = [*ids, *one.emitted_ids]
    assert len(sizes) > 4
    assert sum(sizes) > len(sizes)


def test_the_command_runs_checks_and_inspects(place: Path) -> None:
    told = ("run", exported(place), "--prompt-ids", ",".join(map(str, prompt(9))), "--max-new-tokens", 12, "--json")
    texts = [json.loads(run(*told, *plain).stdout)["token_ids"] for plain in ((), ("--plain",))]
    assert texts[0] == texts[1] == greedy(tiny_model("llama"), prompt(9), 12)
    checked = run("check", exported(place))
    assert checked.exit_code == 0, checked.output
    assert "pard" in run("inspect", exported(place)).stdout


def changed(place: Path, tmp_path: Path, **changes: Any) -> Path:
    """The drafter with another config.json."""
    folder = Path(shutil.copytree(folders(place)[1], tmp_path / "drafter"))
    settings = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pard_token": None}, "names no pard_token: it must be one of its 512 tokens"),
        ({"pard_token": VOCAB_SIZE}, "has the mask token 512"),
        ({"pard_token": "mask"}, "has the mask token 'mask'"),
        ({"pard2_target_layers": [1, 2]}, "as PARD-2 does"),
    ],
)
def test_a_drafter_without_a_mask_token_is_refused(
    place: Path, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    drafter = changed(place, tmp_path, **changes)
    with pytest.raises(CheckpointError, match=said):
        export_checkpoint(folders(place)[0], tmp_path / "b", PardOptions(str(drafter)))
    assert not (tmp_path / "b").exists()


def test_the_mask_token_may_have_another_name(place: Path, tmp_path: Path) -> None:
    drafter = changed(place, tmp_path, pard_token=None, ptd_token_id=7)
    assert mask_token(open_checkpoint(drafter)) == 7
