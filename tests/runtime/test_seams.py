"""Drafters of several kinds on one loop, each tested by the tokens of a real build."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.compiler.checking.check import check_bundle
from ptgc.errors import ExportError, UsageError
from ptgc.exporters import export
from ptgc.exporters.strategies.layer_skip import first_layers
from ptgc.graphs.reference import drafts_of_heads
from ptgc.runtime import Generator
from ptgc.runtime.results import RoundTrace
from ptgc.spec.plan import DecodePlan
from ptgc.spec.strategies.dflash import dflash
from ptgc.spec.strategies.draft_model import draft_model
from ptgc.spec.strategies.eagle import eagle
from ptgc.spec.strategies.eagle3 import eagle3
from ptgc.spec.strategies.hydra import hydra
from ptgc.spec.strategies.jacobi import jacobi
from ptgc.spec.strategies.layer_skip import layer_skip
from ptgc.spec.strategies.lookahead import lookahead
from ptgc.spec.strategies.medusa import medusa
from ptgc.spec.strategies.merged import MergedDrafter
from ptgc.spec.strategies.mlp_speculator import mlp_speculator
from ptgc.spec.strategies.mtp import mtp
from ptgc.spec.strategies.pard import pard
from ptgc.spec.strategies.recycling import recycling
from ptgc.spec.strategies.suffix import SuffixDrafter, suffix
from ptgc.spec.tree import TreeSpec
from tests import dflash as dflash_layout
from tests import pard as pard_loop
from tests.eagle import eagle3_drafter, eagle_drafter
from tests.heads import modules
from tests.models import greedy, prompt, tiny_model
from tests.mtp import mtp_drafter, mtp_layers
from tests.runtime.test_draft_model import drafter

NEW_TOKENS = 48
TREE = TreeSpec((-1, 0, 0, 1, 1, 2, 3, 3, 4))
PROMPTS = [prompt(length) for length in (1, 5, 40, 17)]


def drafted_tree() -> tuple[dict[str, Any], DecodePlan]:
    """A model drafts a static tree, depth by depth, in its own cache."""
    return {"target": tiny_model("llama"), "drafter": drafter()}, draft_model(tree=TREE)


def early_layers() -> tuple[dict[str, Any], DecodePlan]:
    """The target's first layers draft over the target's cache, with the target's weights."""
    target = tiny_model("llama")
    return {"target": target, "drafter": first_layers(target, 2)}, layer_skip(2, 3)


def heads() -> tuple[dict[str, Any], DecodePlan]:
    """Heads on the target's last hidden state."""
    return modules("medusa"), medusa(TREE)


def reading_heads() -> tuple[dict[str, Any], DecodePlan]:
    """Heads that read the last token and drafts."""
    return modules("hydra"), hydra(TREE)


def recurrent_heads() -> tuple[dict[str, Any], DecodePlan]:
    """A state that takes in draft by draft."""
    return modules("mlp-speculator"), mlp_speculator(TREE)


def states() -> tuple[dict[str, Any], DecodePlan]:
    """A layer on the target's hidden states drafts a tree with its own."""
    return {"target": tiny_model("llama"), "drafter": eagle3_drafter()}, eagle3(tree=TREE)


def likeliest_states() -> tuple[dict[str, Any], DecodePlan]:
    """The same, with the tree that the drafter finds likeliest."""
    roles, plan = states()
    return roles, replace(plan, dynamic_tree=True)


def likeliest_masks() -> tuple[dict[str, Any], DecodePlan]:
    """A model fills masks after the text, as the tree that it finds likeliest."""
    roles, plan = masks()
    return roles, replace(plan, dynamic_tree=True)


def last_states() -> tuple[dict[str, Any], DecodePlan]:
    """A layer on the target's last states drafts a tree with its own."""
    return {"target": tiny_model("llama"), "drafter": eagle_drafter()}, eagle(tree=TREE)


def own_layer() -> tuple[dict[str, Any], DecodePlan]:
    """The target's layer for multi-token prediction drafts a chain, token by token."""
    return {"target": tiny_model("llama"), "drafter": mtp_drafter()}, mtp(4)


def own_layers() -> tuple[dict[str, Any], DecodePlan]:
    """Three of the target's own layers draft a token each, in one run."""
    return {"target": tiny_model("llama"), "drafter": mtp_layers()}, mtp(num_layers=3)


def block() -> tuple[dict[str, Any], DecodePlan]:
    """Layers on the target's hidden states fill a block of masks."""
    roles = {"target": tiny_model("llama"), "drafter": dflash_layout.dflash_drafter()}
    return roles, dflash(dflash_layout.BLOCK, dflash_layout.MASK)


def masks() -> tuple[dict[str, Any], DecodePlan]:
    """A model fills masks after the text, as a tree."""
    roles = {"target": tiny_model("llama"), "drafter": pard_loop.pard_drafter()}
    return roles, pard(pard_loop.MASK, tree=TREE)


def recycled() -> tuple[dict[str, Any], DecodePlan]:
    """The target's runners-up of earlier rows fill a tree."""
    return {"target": tiny_model("llama")}, recycling(tree=TREE)


def guessed() -> tuple[dict[str, Any], DecodePlan]:
    """The target's answers to the last drafts are the next ones."""
    return {"target": tiny_model("llama")}, jacobi(3)


def looked_ahead() -> tuple[dict[str, Any], DecodePlan]:
    """The target writes n-grams beside its text."""
    return {"target": tiny_model("llama")}, lookahead(4, 3, 2)


def repeated_suffixes() -> tuple[dict[str, Any], DecodePlan]:
    """The text itself drafts."""
    return {"target": tiny_model("llama")}, suffix()


def text_before_states() -> tuple[dict[str, Any], DecodePlan]:
    """A layer on hidden states drafts a tree where the text does not repeat itself."""
    roles, plan = states()
    drafter = MergedDrafter(TREE.num_nodes - 1, drafters=(SuffixDrafter(TREE.num_nodes - 1), plan.drafter))
    return roles, replace(plan, drafter=drafter)


PROBES: dict[str, Callable[[], tuple[dict[str, Any], DecodePlan]]] = {
    "tree": drafted_tree,
    "layer-skip": early_layers,
    "medusa": heads,
    "eagle3": states,
    "dynamic": likeliest_states,
    "eagle": last_states,
    "mtp": own_layer,
    "mtp-layers": own_layers,
    "hydra": reading_heads,
    "mlp-speculator": recurrent_heads,
    "dflash": block,
    "pard": masks,
    "dynamic-pard": likeliest_masks,
    "recycling": recycled,
    "jacobi": guessed,
    "lookahead": looked_ahead,
    "suffix": repeated_suffixes,
    "merged": text_before_states,
}


@cache
def probe(place: Path, name: str) -> Path:
    """The bundle of one of them, with float32 builds of one and of four rows."""
    roles, plan = PROBES[name]()
    path = export(roles, plan, place / f"seam-{name}")
    for batch in (1, 4):
        options = BuildOptions(precision="float32", batch_size=batch, max_length=512, stage=Stage.PREPARE)
        build(path, options)
    return path


def build_of(batch: int) -> str:
    """The name of a build of these."""
    return "onnxruntime-cpu-float32-l512" + (f"-b{batch}" if batch > 1 else "")


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", PROBES)
def test_drafts_change_nothing(place: Path, name: str, batch: int) -> None:
    with Generator(probe(place, name), build=build_of(batch), draft_length="fixed") as generator:
        results = generator.generate(PROMPTS, max_new_tokens=NEW_TOKENS)
        assert [one.token_ids for one in results] == [greedy(tiny_model("llama"), ids, NEW_TOKENS) for ids in PROMPTS]
        assert sum(one.statistics.drafted_tokens for one in results) > NEW_TOKENS
        assert sum(one.statistics.accepted_tokens for one in results) > 0
        options = {"max_new_tokens": NEW_TOKENS, "temperature": 0.8, "seed": 3}
        sampled, plain = (generator.generate(PROMPTS, plain=kind, **options) for kind in (False, True))
    assert [one.token_ids for one in sampled] == [one.token_ids for one in plain]


PART = TreeSpec((-1, 0, 1, 2, 0, 1))
"""A part of TREE whose nodes are not in the order of their depths: the most valuable come first."""
FILLING = ("tree", "medusa", "eagle3", "eagle", "hydra", "mlp-speculator", "pard", "recycling", "merged")
"""Those whose drafts fill a tree."""


def drafted_paths(one: RoundTrace) -> dict[tuple[int, ...], int]:
    """The drafts of a round by the ranks on their paths."""
    tree = TreeSpec((-1, *one.parents))
    paths: list[tuple[int, ...]] = [()]
    for parent, rank in zip(tree.parents[1:], tree.ranks[1:], strict=True):
        paths.append((*paths[parent], rank))
    return dict(zip(paths[1:], one.drafted_ids, strict=True))


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", FILLING)
def test_drafts_fill_a_part_of_the_tree(place: Path, name: str, batch: int) -> None:
    known = {(0,), (0, 0), (0, 0, 0), (1,), (0, 1)}
    options: dict[str, Any] = {"build": build_of(batch), "draft_length": "fixed"}
    last = len(PROBES[name]()[1].drafter.parts) - 1
    with Generator(probe(place, name), **options) as generator:
        whole = generator.generate(PROMPTS[2], max_new_tokens=NEW_TOKENS, trace=True).trace
    chain = {(0,), (0, 0)}
    for part, count, paths in ((PART, None, known), (PART, 2, chain), (TreeSpec.chain(2), None, chain)):
        with Generator(probe(place, name), tree=part, num_draft_tokens=count, **options) as generator:
            results = generator.generate(PROMPTS, max_new_tokens=NEW_TOKENS, trace=True)
            expected = [greedy(tiny_model("llama"), ids, NEW_TOKENS) for ids in PROMPTS]
            assert [one.token_ids for one in results] == expected
            drawn = {"max_new_tokens": NEW_TOKENS, "temperature": 0.8, "seed": 3}
            sampled, plain = (generator.generate(PROMPTS, plain=kind, **drawn) for kind in (False, True))
            assert [one.token_ids for one in sampled] == [one.token_ids for one in plain]
        drafted = [drafted_paths(one) for text in results for one in text.trace if one.part == last]
        found = set().union(*drafted)
        # Recycling takes the next nodes in place of those whose tokens are not known yet.
        assert found == paths or (name == "recycling" and paths < found <= known)
        # The same draft as in the whole tree, at the same place of the text.
        both = [next(one for one in trace if one.drafted_ids) for trace in (whole, results[2].trace)]
        if {one.part for one in both} == {last} and name != "recycling":
            assert drafted_paths(both[1]).items() <= drafted_paths(both[0]).items()


@pytest.mark.parametrize(
    ("name", "tree", "problem"),
    [
        ("tree", [-1, 0, 0, 0], "tree that was given has node 3, which the plan's tree lacks"),
        ("eagle3", [-1, 0, 1, 2, 3], "tree that was given has node 4, which the plan's tree lacks"),
        ("medusa", [*TREE.parents, 0], "tree that was given has node 9, which the plan's tree lacks"),
        ("mtp", [-1, 0], "tree that was given has no use"),
        ("lookahead", [-1, 0, 0], "tree that was given has no use"),
        ("dynamic", [-1, 0, 0], "tree that was given has no use"),
        ("tree", [-1, 2, 1], "tree is .*node 1 has parent 2; a parent must come before its children"),
        ("tree", [0], "tree is .*a tree starts with its root"),
        ("tree", "4,2", "tree is '4,2'; it must be a tree: a list with the parent of each node"),
    ],
)
def test_what_is_no_part_of_the_tree_is_refused(place: Path, name: str, tree: Any, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        Generator(probe(place, name), build=build_of(1), tree=tree)


@pytest.mark.parametrize("name", PROBES)
def test_drafts_are_counted_by_their_place(place: Path, name: str) -> None:
    with Generator(probe(place, name), build=build_of(1), draft_length="fixed") as generator:
        result = generator.generate(PROMPTS[2], max_new_tokens=NEW_TOKENS, trace=True)
    tried: Counter[tuple[int, int]] = Counter()
    accepted: Counter[tuple[int, int]] = Counter()
    for one in result.trace:
        tree, path = TreeSpec((-1, *one.parents)), one.path[: one.accepted]
        assert one.emitted_ids[: one.accepted] == [one.drafted_ids[node - 1] for node in path]
        assert [tree.parents[node] for node in path] == [0, *path][: len(path)]
        for node in range(1, tree.num_nodes):
            if tree.parents[node] in {0, *path}:
                place_of = (tree.depths[node], tree.ranks[node])
                tried[place_of] += 1
                accepted[place_of] += node in path
    counts = {(one.depth, one.rank): (one.tried, one.accepted) for one in result.statistics.draft_counts}
    if name == "lookahead":  # the rows of its window are run, but none of them is tried
        assert all(counts[one][1] == accepted[one] for one in accepted if accepted[one])
        assert all(counts[one][0] <= tried[one] for one in counts)
    else:
        assert counts == {one: (tried[one], accepted[one]) for one in tried}
    assert list(counts) == sorted(counts)
    stats = result.statistics
    assert 0 < stats.accept_seconds + stats.commit_seconds < stats.decode_seconds


def test_rows_that_no_token_comes_from_are_no_drafts(place: Path) -> None:
    with Generator(probe(place, "lookahead"), build=build_of(1), draft_length="fixed") as generator:
        # The first round runs a level of the window; behind it there is no room for two, and no n-gram is known.
        result = generator.generate(PROMPTS[2], max_new_tokens=6, trace=True)
        assert len(result.trace[-6].drafted_ids) == 4 and result.statistics.drafted_tokens == 0
        result = generator.generate(PROMPTS[2], max_new_tokens=NEW_TOKENS, trace=True)
    stats = result.statistics
    tried = sum(one.tried for one in stats.draft_counts)
    assert stats.accepted_tokens <= tried <= stats.drafted_tokens < sum(len(one.drafted_ids) for one in result.trace)


# In a batch a tree's accepted tokens may have stood in other slots than plain decoding's, so that sums over them round
# otherwise: near-ties of a quantised build may fall differently there.
@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize(("name", "batch"), [*((name, 1) for name in PROBES), ("layer-skip", 4)])
def test_drafts_change_nothing_in_quantised_builds(place: Path, name: str, batch: int, precision: str) -> None:
    options = BuildOptions(precision=precision, batch_size=batch, max_length=512, stage=Stage.PREPARE)
    made = build(probe(place, name), options)
    with Generator(probe(place, name), build=made.manifest.id, draft_length="fixed") as generator:
        for sampling in ({}, {"temperature": 0.8, "seed": 3}):
            drafted, plain = (
                generator.generate(PROMPTS, max_new_tokens=NEW_TOKENS, plain=kind, **sampling) for kind in (False, True)
            )
            assert [one.token_ids for one in drafted] == [one.token_ids for one in plain]
            assert sum(one.statistics.drafted_tokens for one in drafted) > NEW_TOKENS


@pytest.mark.parametrize("name", PROBES)
def test_check_passes(place: Path, name: str) -> None:
    reports = check_bundle(probe(place, name))
    assert all(report.passed for report in reports), [report.divergences for report in reports]


@pytest.mark.tensorrt
@pytest.mark.parametrize("name", PROBES)
def test_tensorrt_compiles_them(place: Path, name: str) -> None:
    options = BuildOptions(backend="tensorrt-rtx", precision="float16", max_length=64)
    made = build(probe(place, name), options)
    roles = made.manifest.roles
    assert {engine.role for engine in made.manifest.engines} == roles.keys()
    shared = [state.shared_with for role in roles.values() for state in role.states if state.shared_with]
    assert bool(shared) == (name == "layer-skip")


def test_a_texts_fork_goes_on_with_what_its_drafter_read(place: Path) -> None:
    for name in PROBES:
        with Generator(probe(place, name), build=build_of(4), draft_length="fixed") as generator:
            session = generator.session()
            session.append(PROMPTS[2])
            first = session.generate(max_new_tokens=16).token_ids
            other = session.fork()
            session.rewind(5)
            expected = greedy(tiny_model("llama"), PROMPTS[2], NEW_TOKENS)
            assert first == expected[:16]
            assert other.generate(max_new_tokens=16).token_ids == expected[16:32]
            assert session.generate(max_new_tokens=16).token_ids == expected[11:27]


def test_a_tree_that_is_deeper_than_there_are_heads_is_refused(tmp_path: Path) -> None:
    roles, _ = heads()
    with pytest.raises(ExportError, match="has 3 heads; the plan's tree is 4 tokens deep"):
        export(roles, medusa(TreeSpec.chain(4)), tmp_path / "bundle")


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "a drafter has at least one layer"), (3, "layers 0-2 are all of them"), (9, "layers 0-8 are more than that")],
)
def test_some_layers_are_left_out_of_a_drafter(count: int, said: str) -> None:
    with pytest.raises(ExportError, match=f"LlamaForCausalLM has 3 layers, from 0 to 2: {said}"):
        first_layers(tiny_model("llama"), count)


@torch.no_grad()
def test_heads_draft_what_they_say_of_the_last_accepted_token(place: Path) -> None:
    roles, plan = heads()
    ids = list(PROMPTS[2])
    with Generator(probe(place, "medusa"), build=build_of(1), draft_length="fixed") as generator:
        result = generator.generate(ids, max_new_tokens=NEW_TOKENS, trace=True)
    rounds = 0
    for one in result.trace:
        if len(one.drafted_ids) == plan.tree.num_nodes - 1:
            state = roles["target"].model(torch.tensor([ids[:-1]])).last_hidden_state[:, -1:]
            expected = drafts_of_heads(roles["heads"](state).numpy(), plan.tree)[0]
            assert one.drafted_ids == expected.tolist()
            rounds += 1
        ids += one.emitted_ids
    assert rounds > NEW_TOKENS / 4


def test_the_first_layers_draft_what_they_write_alone(place: Path) -> None:
    roles, plan = early_layers()
    ids = list(PROMPTS[2])
    with Generator(probe(place, "layer-skip"), build=build_of(1), draft_length="fixed") as generator:
        result = generator.generate(ids, max_new_tokens=NEW_TOKENS, trace=True)
    rounds = 0
    for one in result.trace:
        if len(one.drafted_ids) == plan.drafter.num_draft_tokens:
            assert one.drafted_ids == greedy(roles["drafter"], ids, len(one.drafted_ids))
            rounds += 1
        ids += one.emitted_ids
    assert rounds > NEW_TOKENS / 4
