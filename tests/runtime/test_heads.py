"""Checkpoints of heads: exported by the command, and round by round as the papers' loops draft."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.errors import CheckpointError, ExportError
from ptgc.exporters.from_checkpoint import export_checkpoint, open_sources
from ptgc.exporters.modules.medusa import MedusaHeads
from ptgc.exporters.modules.sequential_heads import SequentialHeads, TreeOfHeads
from ptgc.exporters.strategies.base import Sources, exporter_of
from ptgc.graphs.reference import drafts_of_heads
from ptgc.runtime import Generator
from ptgc.spec.bundle import open_bundle
from ptgc.spec.tree import TreeSpec
from tests.cli.test_commands import run
from tests.drafter_checkpoints import having, target_folder, without, write
from tests.heads import (
    HYDRA_SETTINGS,
    MEDUSA_SETTINGS,
    NUM_HEADS,
    SCORES,
    SPECULATOR_SETTINGS,
    Score,
    Tensors,
    drafts,
    hydra_heads,
    hydra_score,
    hydra_tensors,
    medusa_heads,
    medusa_score,
    medusa_tensors,
    prepared,
    speculator_score,
    speculator_tensors,
    states_of,
)
from tests.models import VOCAB_SIZE, greedy, prompt, tiny_model

NEW_TOKENS = 40
TREE = TreeSpec.branching(2, 2, 1)
PROMPTS = [prompt(length) for length in (2, 5, 40)]
TENSORS: dict[str, Callable[[], Tensors]] = {
    "medusa": medusa_tensors,
    "hydra": hydra_tensors,
    "mlp-speculator": speculator_tensors,
}
SETTINGS = {"medusa": MEDUSA_SETTINGS, "hydra": HYDRA_SETTINGS, "mlp-speculator": SPECULATOR_SETTINGS}


def sources_of(place: Path, strategy: str, folder: Path, **options: Any) -> Sources:
    """The opened checkpoints of the tiny llama and of heads."""
    return open_sources(target_folder(place), {"heads": str(folder), **options}, strategy=strategy)


def read(place: Path, strategy: str, folder: Path) -> nn.Module:
    """The heads of a checkpoint."""
    sources = sources_of(place, strategy, folder)
    return exporter_of(sources.strategy).modules(sources, lambda _: None)["heads"]


@torch.no_grad()
def drafted(heads: nn.Module, ids: list[int]) -> list[int]:
    """What heads draft behind a text whose last token the target has not read, as their graph does."""
    state = states_of(ids[:-1])[:, -1:]
    if isinstance(heads, SequentialHeads):
        found: list[int] = TreeOfHeads(heads, TREE)(state, torch.tensor([ids[-1:]]))[0].tolist()
        return found
    assert isinstance(heads, MedusaHeads)
    return drafts_of_heads(heads(state).numpy(), TREE, heads.drafted_ids)[0].tolist()


def export_of(place: Path, output: Path, strategy: str, folder: Path, **options: Any) -> Path:
    """A bundle of the tiny llama with these heads, and a build."""
    given = {"heads": str(folder), **options}
    path = export_checkpoint(target_folder(place), output, given, strategy=strategy)
    build(path, BuildOptions(precision="float32", max_length=512, stage=Stage.PREPARE))
    return path


@cache
def exported(place: Path, strategy: str) -> Path:
    folder = write(place / f"heads-{strategy}", TENSORS[strategy](), SETTINGS[strategy])
    return export_of(place, place / f"heads-bundle-{strategy}", strategy, folder, tree="2,2,1")


def check_rounds(bundle: Path, ids: list[int], expected: Callable[[list[int]], list[int]]) -> list[int]:
    """Compare every whole round's drafts; return how many drafts each of these rounds accepted."""
    with Generator(bundle, draft_length="fixed") as generator:
        result = generator.generate(ids, max_new_tokens=NEW_TOKENS, trace=True)
    assert result.token_ids == greedy(tiny_model("llama"), ids, NEW_TOKENS)
    most, accepted = open_bundle(bundle).manifest.plan.drafter.num_draft_tokens, []
    for one in result.trace:
        if len(one.drafted_ids) == most:
            assert one.drafted_ids == expected(ids)
            accepted.append(len(one.emitted_ids) - 1)
        ids = [*ids, *one.emitted_ids]
    assert len(accepted) > 4
    return accepted


@pytest.mark.parametrize("strategy", SCORES)
def test_every_round_drafts_what_the_paper_says(place: Path, strategy: str) -> None:
    accepted = []
    for length in (1, 5, 40):
        accepted += check_rounds(
            exported(place, strategy), prompt(length), lambda ids: drafts(SCORES[strategy], ids, TREE)
        )
    assert 0.3 < sum(accepted) / (NUM_HEADS * len(accepted)) < 0.9
    assert set(accepted) == {0, 1, 2, 3}  # each depth is rejected at times


def test_a_chain_from_an_earlier_state(place: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "heads", hydra_tensors(), HYDRA_SETTINGS | {"hidden_state_offset": 1})
    path = export_of(place, tmp_path / "b", "hydra", folder, acceptance="block")
    tree = open_bundle(path).manifest.plan.tree
    assert tree == TreeSpec.chain(NUM_HEADS)

    def expected(ids: list[int]) -> list[int]:
        with torch.no_grad():
            states = tiny_model("llama")(torch.tensor([ids[:-1]]), output_hidden_states=True).hidden_states[-2]
        return drafts(lambda _, last: SCORES["hydra"](states[0, -1], last), ids, tree)

    check_rounds(path, prompt(5), expected)


def test_a_layer_of_the_heads_own_prepares_what_they_read(place: Path, tmp_path: Path) -> None:
    """It attends to the text before, so that accepted paths of the tree must be committed in its cache too."""
    settings = HYDRA_SETTINGS | {"hydra_head_arch": "prefix-mlp"}
    folder = write(tmp_path / "heads", hydra_tensors(has_prefix=True), settings, "hydra_lm_head.pt")
    path = export_of(place, tmp_path / "b", "hydra", folder, tree="2,2,1")
    assert len(open_bundle(path).manifest.roles["target"].states) == 4
    score = partial(hydra_score, has_prefix=True)
    accepted = check_rounds(path, prompt(5), lambda ids: drafts(score, ids, TREE, prepared))
    assert set(accepted) > {0, 1}


@pytest.mark.parametrize("options", [{}, {"ties_weights": True}, {"scales_input": True}], ids=str)
def test_kinds_of_speculators(place: Path, tmp_path: Path, options: dict[str, bool]) -> None:
    tensors = speculator_tensors(**options)
    if "ties_weights" in options:  # as checkpoints that keep the weights of every step
        tensors |= {name.replace("0", "1"): tensor for name, tensor in tensors.items() if "proj" not in name}
    settings = {"tie_weights": "ties_weights" in options, "scale_input": "scales_input" in options}
    folder = write(tmp_path / "heads", tensors, SPECULATOR_SETTINGS | settings, "pytorch_model.bin")
    heads = read(place, "mlp-speculator", folder)
    for ids in PROMPTS:
        assert drafted(heads, ids) == drafts(partial(speculator_score, **options), ids, TREE)


def _renamed(change: Callable[[str], str]) -> Tensors:
    return {change(name): tensor for name, tensor in medusa_tensors().items()}


def _vllm(name: str) -> str:
    head, layer, *rest = name.split(".")
    return f"lm_heads.{head}.weight" if rest == ["weight"] else f"blocks.{head}.layers.{layer}.{rest[-1]}"


def _optimizer(name: str) -> str:
    head, layer, *rest = name.split(".")
    last = "lm_head.weight" if rest == ["weight"] else f"medusa_layers.{layer}.{'.'.join(rest)}"
    return f"parallel_draft_heads.{head}.{last}"


def test_layouts_of_medusa_heads_are_the_same_heads(place: Path, tmp_path: Path) -> None:
    vllm = {"architectures": ["MedusaModel"], "num_heads": 3, "num_hidden_layers": 2, "hidden_size": 64}
    whole = _renamed(lambda name: f"medusa_head.{name}") | tiny_model("llama").state_dict()
    folders = (
        write(tmp_path / "pickled", medusa_tensors(), MEDUSA_SETTINGS, "medusa_lm_head.pt"),
        write(tmp_path / "tgi", medusa_tensors(), MEDUSA_SETTINGS, "medusa_lm_head.safetensors"),
        write(tmp_path / "ours", medusa_tensors(), MEDUSA_SETTINGS),
        write(tmp_path / "whole", whole, tiny_model("llama").config.to_diff_dict() | MEDUSA_SETTINGS),
        write(tmp_path / "optimizer", _renamed(_optimizer), {"medusa": {"num_medusa_heads": 3}}),
        write(tmp_path / "vllm", _renamed(_vllm), vllm),
    )
    for folder in folders:
        _check_same(read(place, "medusa", folder), medusa_heads())


def test_a_model_may_hold_its_own_heads(tmp_path: Path) -> None:
    whole = _renamed(lambda name: f"medusa_head.{name}") | tiny_model("llama").state_dict()
    del whole["lm_head.weight"]  # tied
    folder = write(tmp_path / "whole", whole, tiny_model("llama").config.to_dict() | MEDUSA_SETTINGS)
    sources = open_sources(folder, {"heads": str(folder)}, strategy="medusa")
    found = exporter_of(sources.strategy).modules(sources, lambda _: None)
    _check_same(found["heads"], medusa_heads())
    _check_same(found["target"], tiny_model("llama"))


def _check_same(found: nn.Module, expected: nn.Module) -> None:
    tensors = expected.state_dict()
    assert found.state_dict().keys() == tensors.keys()
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in found.state_dict().items())


def test_heads_by_the_command(place: Path, tmp_path: Path, cache_folder: Path) -> None:
    bundle, folder = tmp_path / "bundle", write(tmp_path / "heads", hydra_tensors(), HYDRA_SETTINGS)
    given = ("--strategy", "hydra", "--heads", folder)
    planned = run("export", target_folder(place), "-o", bundle, *given, "--dry-run", "--json")
    assert len(json.loads(planned.stdout)["plan"]["tree"]) == 16
    made = run("export", target_folder(place), "-o", bundle, *given, "--tree", "3,2", "--json")
    assert made.exit_code == 0, made.output
    assert run("build", bundle, "--precision", "float32", "--max-length", 128).exit_code == 0
    asked = ("run", bundle, "--prompt-ids", ",".join(map(str, prompt(9))), "--max-new-tokens", 24, "--json")
    written, plain = (json.loads(run(*asked, *more).stdout) for more in ((), ("--plain",)))
    assert written["token_ids"] == plain["token_ids"] == greedy(tiny_model("llama"), prompt(9), 24)
    assert (written["strategy"], written["lossless"]) == ("hydra", True)
    checked = run("check", bundle, "--json")
    assert checked.exit_code == 0, checked.output
    assert "hydra" in run("inspect", bundle).stdout
    helped = run("export", "--strategy", "hydra", "--help").stdout
    assert "--heads" in helped and "The token tree to draft" in helped


def test_layouts_of_hydra_heads_are_the_same_heads(place: Path, tmp_path: Path) -> None:
    whole = {f"hydra_head.{name}": tensor for name, tensor in hydra_tensors().items()}
    whole |= {"hydra_lm_head.weight": torch.ones(2)}  # which their model has, and does not use
    folders = (
        write(tmp_path / "pickled", hydra_tensors(), HYDRA_SETTINGS, "hydra_lm_head.pt"),
        write(tmp_path / "whole", whole, HYDRA_SETTINGS),
    )
    for folder in folders:
        _check_same(read(place, "hydra", folder), hydra_heads())


def test_heads_that_are_not_grounded_read_no_drafts(place: Path, tmp_path: Path) -> None:
    tensors = {}
    for name, one in medusa_tensors().items():
        head, _, rest = name.partition(".")
        tensors[f"hydra_lm_head.{head}.weight" if rest == "2.weight" else f"hydra_mlp.{name}"] = one
    tensors |= {f"hydra_lm_head.{head}.bias": torch.zeros(VOCAB_SIZE) for head in range(NUM_HEADS)}
    heads = read(place, "hydra", write(tmp_path / "heads", tensors, HYDRA_SETTINGS | {"grounded_heads": False}))
    for ids in PROMPTS:
        assert drafted(heads, ids) == drafts(medusa_score, ids, TREE)


def _blocks() -> Tensors:
    return {name: tensor for name, tensor in medusa_tensors().items() if "linear" in name}


def _logits_of(matrices: list[torch.Tensor], known: torch.Tensor) -> Callable[[torch.Tensor, int], Score]:
    """Scores of heads with other matrices of logits, and of some tokens only."""
    never = torch.full((VOCAB_SIZE,), -torch.inf).index_fill(0, known, 0.0)

    def score(state: torch.Tensor, last: int) -> Score:
        whole = medusa_score(state, last, {f"{head}.2.weight": one for head, one in enumerate(matrices)})
        return lambda drafted: whole(drafted) + never

    return score


def test_matrices_of_logits_may_be_shared_and_small(place: Path, tmp_path: Path) -> None:
    own, every, some = tiny_model("llama").lm_head.weight.detach(), torch.arange(VOCAB_SIZE), torch.arange(0, 512, 3)
    matrices = [medusa_tensors()[f"{head}.2.weight"] for head in range(NUM_HEADS)]
    small = {f"{head}.2.weight": one[some] for head, one in enumerate(matrices)}
    one_of_vllm = {"lm_heads.0.weight": matrices[0], "token_map": some}
    kinds: list[tuple[Tensors, dict[str, Any], list[torch.Tensor], torch.Tensor]] = [
        ({}, {}, [own] * 3, every),
        ({"lm_head.weight": matrices[0]}, {}, matrices[:1] * 3, every),
        (small | {"d2t": some - torch.arange(len(some))}, {}, matrices, some),
        (one_of_vllm, {"original_lm_head": True}, matrices[:1] * 3, some),
    ]
    for number, (tensors, settings, used, known) in enumerate(kinds):
        folder = write(tmp_path / str(number), _blocks() | tensors, MEDUSA_SETTINGS | settings)
        heads = read(place, "medusa", folder)
        for ids in PROMPTS:
            assert drafted(heads, ids) == drafts(_logits_of(used, known), ids, TREE)


def test_what_heads_share_with_the_target_is_stored_once(place: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "heads", _blocks(), MEDUSA_SETTINGS)
    path = export_checkpoint(target_folder(place), tmp_path / "b", {"heads": str(folder)}, strategy="medusa")
    own = tiny_model("llama").lm_head.weight.detach()
    for bundle, tensors in ((path, _blocks()), (exported(place, "hydra"), hydra_tensors())):
        stored = sum(file.stat().st_size for file in (bundle / "graphs").glob("heads*"))
        needed = sum(one.numel() * 4 for name, one in tensors.items() if "input_embed_fn" not in name)
        assert stored < needed + own.numel() * 2


def test_heads_draft_some_of_the_targets_tokens(place: Path, tmp_path: Path) -> None:
    own, some = tiny_model("llama").lm_head.weight.detach(), torch.arange(0, VOCAB_SIZE, 3)
    folder = write(tmp_path / "heads", _blocks() | {"token_map": some}, MEDUSA_SETTINGS)
    path = export_of(place, tmp_path / "b", "medusa", folder, tree="2,2,1")
    check_rounds(path, prompt(5), lambda ids: drafts(_logits_of([own] * 3, some), ids, TREE))


@pytest.mark.parametrize("strategy", SCORES)
def test_the_default_tree_is_as_deep_as_there_are_heads(place: Path, tmp_path: Path, strategy: str) -> None:
    folder = write(tmp_path / "heads", TENSORS[strategy](), SETTINGS[strategy])
    tree = sources_of(place, strategy, folder).plan(None).tree
    assert (tree.num_nodes, max(tree.depths)) == (16, NUM_HEADS)
    with pytest.raises(ExportError, match="--tree is 4 tokens deep; the drafter has 3 heads"):
        sources_of(place, strategy, folder, tree="1,1,1,1").plan(None)


def _narrow(tensors: Tensors) -> Tensors:
    """Heads of a smaller target."""
    return {name: tensor[:32] if tensor.ndim == 1 else tensor[..., :32] for name, tensor in tensors.items()}


def _few(tensors: Tensors) -> Tensors:
    """Heads of a target with fewer tokens."""
    return {name: tensor[:500] for name, tensor in tensors.items()}


def _few_of_many(tensors: Tensors) -> Tensors:
    return _few(tensors) | {"token_map": torch.arange(505)}


def _only(*names: str) -> Callable[[Tensors], Tensors]:
    return lambda tensors: {name: tensors[name] for name in names}


@pytest.mark.parametrize(
    ("strategy", "change", "settings", "error", "said"),
    [
        (
            "medusa",
            without("0.1.linear.bias", "2.2.weight"),
            {},
            CheckpointError,
            r"lack 2 tensors, missing: blocks\.0\.1\.linear\.bias, lm_heads\.2\.weight",
        ),
        ("medusa", having(extra=torch.ones(2)), {}, CheckpointError, "unexpected: extra"),
        ("medusa", having(**{"1.0.linear.weight": torch.ones(3, 64)}), {}, CheckpointError, r"weight is \[3, 64\]"),
        ("medusa", without(), {"medusa_num_heads": 4}, CheckpointError, r"lack 5 tensors, missing: blocks\.3\.0"),
        ("medusa", without(), {"medusa_num_layers": 3}, CheckpointError, r"blocks\.0\.2\.linear\.bias"),
        ("medusa", without(), {"medusa_num_heads": 999}, CheckpointError, "has 999 heads; it must be from 1 to 64"),
        ("medusa", _only("0.2.weight"), {}, CheckpointError, "has no Medusa heads"),
        (
            "medusa",
            having(d2t=torch.arange(VOCAB_SIZE)),
            {},
            ExportError,
            "d2t names tokens from 0 to 1022; the target has 512",
        ),
        (
            "medusa",
            having(token_map=torch.tensor([600])),
            {},
            ExportError,
            "token_map names tokens from 600 to 600; the target has 512",
        ),
        ("medusa", _few_of_many, {}, ExportError, "draft 500 tokens, and they name 505"),
        ("medusa", having(token_map=torch.zeros(VOCAB_SIZE)), {}, ExportError, "token_map names a token twice"),
        ("medusa", _narrow, {}, ExportError, "read states of 32 numbers, and the target's have 64"),
        ("medusa", _few, {}, ExportError, "draft 500 tokens, and the target has 512"),
        ("hydra", without("hydra_mlp.1.0.res_connection.weight"), {}, CheckpointError, "lack 1 tensors"),
        (
            "hydra",
            without(),
            {"hydra_head_arch": "cross-attn"},
            ExportError,
            "'cross-attn' are not exported: they attend",
        ),
        ("hydra", without(), {"hydra_head_arch": "other"}, CheckpointError, "of the kind 'other', has no Hydra heads"),
        (
            "hydra",
            _only("hydra_mlp.0.0.linear.weight"),
            {"hydra_head_arch": "prefix-mlp", "hydra_num_layers": 0},
            CheckpointError,
            "has 0 layers",
        ),
        ("hydra", without(), {"hidden_state_offset": 9}, CheckpointError, "hidden_state_offset 9; the target has 3"),
        ("hydra", without("hydra_lm_head.0.weight"), {}, CheckpointError, "lacks the matrix lm_heads.0.weight"),
        ("mlp-speculator", without("speculator.ln.2.bias"), {}, CheckpointError, r"missing: ln\.2\.bias"),
        ("mlp-speculator", without(), {"n_predict": 4}, CheckpointError, "lack 5 tensors"),
        ("mlp-speculator", without(), {"n_predict": "3"}, CheckpointError, "has 0 steps"),
        ("mlp-speculator", _narrow, {}, ExportError, "read states of 32 numbers, and the target's have 64"),
        ("hydra", _few, {}, ExportError, "draft 500 tokens, and the target has 512"),
    ],
)
def test_heads_of_other_targets_and_damaged_ones_are_refused(
    place: Path,
    tmp_path: Path,
    strategy: str,
    change: Callable[[Tensors], Tensors],
    settings: dict[str, Any],
    error: type[Exception],
    said: str,
) -> None:
    folder = write(tmp_path / "heads", change(TENSORS[strategy]()), SETTINGS[strategy] | settings)
    with pytest.raises(error, match=said):
        read(place, strategy, folder)


def test_a_pickle_of_more_than_tensors_is_refused(place: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "heads", {"code": Path("x")}, MEDUSA_SETTINGS, "medusa_lm_head.pt")  # type: ignore[dict-item]
    with pytest.raises(CheckpointError, match="holds more than tensors"):
        read(place, "medusa", folder)


def test_heads_of_an_eagle_drafter_are_refused(place: Path, tmp_path: Path) -> None:
    tensors = _renamed(_optimizer) | {"fc.weight": torch.ones(64, 192)}
    folder = write(tmp_path / "heads", tensors, MEDUSA_SETTINGS)
    with pytest.raises(ExportError, match="part of an EAGLE drafter"):
        read(place, "medusa", folder)


def test_what_holds_no_heads_is_refused(place: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "heads", {}, MEDUSA_SETTINGS, "other.bin")
    with pytest.raises(CheckpointError, match=r"neither medusa_lm_head\.safetensors, .* nor pytorch_model\.bin"):
        read(place, "medusa", folder)
