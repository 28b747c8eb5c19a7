"""Drafts from a model and from prompt lookup, compared round by round with transformers."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.errors import UsageError
from ptgc.exporters import export
from ptgc.runtime import Generator
from ptgc.runtime._core import Request
from ptgc.runtime.generator import load_core
from ptgc.runtime.load_options import LoadOptions
from ptgc.spec.bundle import open_bundle
from ptgc.spec.plan import DecodePlan
from ptgc.spec.strategies.draft_model import DrafterVocabulary, draft_model
from ptgc.spec.strategies.ngram import NgramMatch, ngram
from ptgc.texts.sample_text import read_sample_text
from tests.models import VOCAB_SIZE, greedy, prompt, tiny_model

DRAFTS, NEW_TOKENS = 4, 48


@cache
def drafter() -> Any:
    """The target with noise, which is right more often than not."""
    model = copy.deepcopy(tiny_model("llama"))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise * parameter.std() * 0.04)
    return model


def numbered(order: Iterable[int]) -> Any:
    """A tokenizer whose id i is the word of the i-th number."""
    tokenizer = Tokenizer(models.WordLevel({f"w{number}": index for index, number in enumerate(order)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0")


@cache
def bundle(place: Path, plan: DecodePlan, batch: int) -> Path:
    roles: dict[str, Any] = {"target": tiny_model("llama")}
    if plan.strategy == "draft-model":
        roles["drafter"] = drafter()
    path = export(roles, plan, place / f"drafts-{plan.strategy}-{plan.acceptance.value}-{batch}")
    build(path, BuildOptions(precision="float32", batch_size=batch, max_length=512, stage=Stage.PREPARE))
    return path


def accepted_by_transformers(monkeypatch: pytest.MonkeyPatch, ids: list[int], **options: Any) -> list[int]:
    """How many drafts each round of assisted generation keeps."""
    from transformers.generation import candidate_generator, utils

    found: list[int] = []
    name = "AssistedCandidateGenerator" if "assistant_model" in options else "PromptLookupCandidateGenerator"
    generator = getattr(candidate_generator, name)
    update = generator.update_candidate_strategy

    def record(self: Any, input_ids: Any, scores: Any, num_matches: int) -> None:
        found.append(int(num_matches))
        update(self, input_ids, scores, num_matches)

    monkeypatch.setattr(generator, "update_candidate_strategy", record)
    assert utils is not None
    tiny_model("llama").generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        pad_token_id=0,
        **options,
    )
    return found


def accepted_by_ptgc(path: Path, ids: list[int], **options: Any) -> list[int]:
    with Generator(path, draft_length="fixed", **options) as generator:
        result = generator.generate(ids, max_new_tokens=NEW_TOKENS, trace=True)
    assert result.token_ids == greedy(tiny_model("llama"), ids, NEW_TOKENS)
    return [one.accepted for one in result.trace if one.emitted_ids]


@pytest.mark.parametrize("length", [1, 5, 40])
def test_a_drafter_is_accepted_as_by_assisted_generation(
    length: int, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = prompt(length)
    found = accepted_by_ptgc(bundle(place, draft_model(DRAFTS), 1), ids)
    settings = drafter().generation_config
    monkeypatch.setattr(settings, "num_assistant_tokens", DRAFTS)
    monkeypatch.setattr(settings, "num_assistant_tokens_schedule", "constant")
    monkeypatch.setattr(settings, "assistant_confidence_threshold", 0.0)
    expected = accepted_by_transformers(monkeypatch, ids, assistant_model=drafter())
    # The last round may be cut differently: it is known to be the last only afterwards.
    assert found[:-1] == expected[: len(found) - 1]
    assert sum(found) > len(found) / 2


def test_a_drafter_of_another_type_serves(place: Path) -> None:
    half = copy.deepcopy(drafter()).to(torch.bfloat16)
    path = export({"target": tiny_model("llama"), "drafter": half}, draft_model(DRAFTS), place / "drafts-bfloat16")
    build(path, BuildOptions(precision="float32", max_length=512, stage=Stage.PREPARE))
    assert sum(accepted_by_ptgc(path, prompt(40))) > 0


@pytest.mark.parametrize("length", [5, 40])
def test_prompt_lookup_is_accepted_as_by_transformers(
    length: int, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = prompt(length) * 2
    plan = ngram(DRAFTS, 3, 1, NgramMatch.FIRST)
    found = accepted_by_ptgc(bundle(place, plan, 1), ids)
    expected = accepted_by_transformers(monkeypatch, ids, prompt_lookup_num_tokens=DRAFTS, max_matching_ngram_size=3)
    assert found[:-1] == expected[: len(found) - 1]
    assert sum(found) > 0


@pytest.mark.parametrize("batch", [1, 3])
def test_drafts_change_nothing(batch: int, place: Path) -> None:
    path = bundle(place, draft_model(DRAFTS), batch)
    prompts = [prompt(length) for length in (1, 5, 40, 300)]
    with Generator(path, draft_length="fixed") as generator:
        results = generator.generate(prompts, max_new_tokens=NEW_TOKENS)
    for ids, result in zip(prompts, results, strict=True):
        assert result.token_ids == greedy(tiny_model("llama"), ids, NEW_TOKENS)
        assert result.lossless and result.strategy == "draft-model"


def test_overlap_is_refused_where_it_was_not_exported(place: Path) -> None:
    with pytest.raises(UsageError, match="exported without it"):
        Generator(bundle(place, draft_model(DRAFTS), 1), overlap=True)


def edited(path: Path, to: Path, change: Callable[[Any], None]) -> Path:
    """A copy of a bundle with another build.json."""
    shutil.copytree(path, to)
    (build_json,) = to.glob("builds/*/build.json")
    document = json.loads(build_json.read_text())
    change(document)
    build_json.write_text(json.dumps(document))
    return to


@pytest.mark.parametrize("batch", [1, 3])
def test_each_role_runs_rounds_of_its_own_widths(batch: int, place: Path, tmp_path: Path) -> None:
    path = bundle(place, draft_model(DRAFTS), batch)
    shapes = open_bundle(path).build().manifest.shapes.roles
    assert shapes["target"].verify_width == DRAFTS + 1 and shapes["drafter"].verify_width == 1
    assert set(shapes["drafter"].widths) != set(shapes["target"].widths)

    def narrow(document: Any) -> None:
        document["shapes"]["roles"]["drafter"] |= {"widths": [1, 7], "kv_capacities": [300, 519]}

    narrowed = edited(path, tmp_path / "narrow", narrow)
    prompts = [prompt(length) for length in (1, 5, 300)]
    found = []
    for one in (path, narrowed):
        with Generator(one, draft_length="fixed") as generator:
            results = generator.generate(prompts, max_new_tokens=NEW_TOKENS)
            found.append([(result.token_ids, result.statistics.accepted_tokens) for result in results])
            assert len(generator.core.measure(1, 1, 8, 2, "drafter")) == 2
            for width, logits in ((4, 4), (6, 1)):  # numbers of logits rows, and a width, that only the target has
                with pytest.raises(UsageError, match="for the role 'drafter'"):
                    generator.core.measure(width, logits, 8, 1, "drafter")
    assert [ids for ids, _ in found[0]] == [greedy(tiny_model("llama"), ids, NEW_TOKENS) for ids in prompts]
    assert found[0] == found[1]


def permuted(order: list[int]) -> Any:
    """The target in another vocabulary: its id i is the target's `order[i]`."""
    model = copy.deepcopy(tiny_model("llama"))
    with torch.no_grad():
        model.model.embed_tokens.weight.copy_(tiny_model("llama").model.embed_tokens.weight[order])
    return model


def test_a_drafter_with_its_own_tokenizer_drafts_by_text(place: Path) -> None:
    order = torch.randperm(VOCAB_SIZE, generator=torch.Generator().manual_seed(2)).tolist()
    plan = draft_model(DRAFTS, vocabulary=DrafterVocabulary.REENCODED)
    path = export(
        {"target": tiny_model("llama"), "drafter": permuted(order)},
        plan,
        place / "drafts-by-text",
        tokenizer=numbered(range(VOCAB_SIZE)),
        drafter_tokenizer=numbered(order),
    )
    build(path, BuildOptions(precision="float32", batch_size=1, max_length=256, stage=Stage.PREPARE))
    ids = prompt(20)
    with Generator(path, draft_length="fixed") as generator:
        result = generator.generate(ids, max_new_tokens=NEW_TOKENS)
        sampled = [generator.generate(ids, max_new_tokens=30, temperature=0.7, seed=3, plain=p) for p in (True, False)]
    assert result.token_ids == greedy(tiny_model("llama"), ids, NEW_TOKENS)
    assert result.statistics.mean_accept_length > DRAFTS  # it is the same model
    assert sampled[0].token_ids == sampled[1].token_ids


def test_a_text_may_be_too_long_in_the_drafters_vocabulary(place: Path) -> None:
    letters = Tokenizer(models.BPE({letter: index for index, letter in enumerate("w0123456789 ")}, merges=[]))
    letters.decoder = decoders.Fuse()
    path = export(
        {"target": tiny_model("llama"), "drafter": drafter()},
        draft_model(DRAFTS, vocabulary=DrafterVocabulary.REENCODED),
        place / "drafts-of-letters",
        tokenizer=numbered(range(VOCAB_SIZE)),
        drafter_tokenizer=PreTrainedTokenizerFast(tokenizer_object=letters),
    )
    build(path, BuildOptions(precision="float32", batch_size=2, max_length=96, stage=Stage.PREPARE))
    # Five letters a word: 100 are more than the build holds, 25 become so while the text grows.
    prompts = [prompt(20), prompt(5)]
    with Generator(path, draft_length="fixed") as generator:
        results = generator.generate(prompts, max_new_tokens=NEW_TOKENS)
        with generator.session() as session:
            session.append(prompt(5))
            session.generate(max_new_tokens=20)
            session.rewind(len(session))  # the drafter has dropped it from its cache
            with session.fork() as fork:
                fork.append(prompt(5))
                assert fork.generate(max_new_tokens=NEW_TOKENS).token_ids == results[1].token_ids
    for ids, result in zip(prompts, results, strict=True):
        assert result.token_ids == greedy(tiny_model("llama"), ids, NEW_TOKENS)


def test_drafts_end_in_front_of_an_id_that_the_target_lacks(place: Path) -> None:
    class Reencoding:
        def to_drafter(self, ids: list[int], context: int) -> list[int]:
            return ids[context:]

        def to_target(self, ids: list[int], context: int) -> list[int]:
            return [*ids[context : context + 1], VOCAB_SIZE, -1, *ids[context + 1 :]]

    reencoding: Any = Reencoding()
    plan = draft_model(DRAFTS, vocabulary=DrafterVocabulary.REENCODED)
    words = numbered(range(VOCAB_SIZE))
    roles: dict[str, Any] = {"target": tiny_model("llama"), "drafter": tiny_model("llama")}
    path = export(roles, plan, place / "foreign-ids", tokenizer=words, drafter_tokenizer=words)
    made = build(path, BuildOptions(precision="float32", max_length=96, stage=Stage.PREPARE))
    core = load_core(made, num_threads=1, reencoding=reencoding, options=LoadOptions(draft_length="fixed"))
    (result,) = core.generate([Request(prompt(5), NEW_TOKENS)], None)
    assert result.token_ids == greedy(tiny_model("llama"), prompt(5), NEW_TOKENS)
    assert result.statistics.mean_accept_length == pytest.approx(2, abs=0.1)  # one draft of each round is left


def test_a_drafter_with_its_own_tokenizer_is_calibrated_with_its_own_ids(place: Path, tmp_path: Path) -> None:
    order = list(reversed(range(VOCAB_SIZE)))
    bundle = export(
        {"target": tiny_model("llama"), "drafter": permuted(order)},
        draft_model(DRAFTS, vocabulary=DrafterVocabulary.REENCODED),
        tmp_path / "calibrated",
        tokenizer=numbered(range(VOCAB_SIZE)),
        drafter_tokenizer=numbered(order),
    )
    path = tmp_path / "words.txt"
    path.write_text(" ".join(f"w{number % VOCAB_SIZE}" for number in range(2000)), encoding="utf-8")
    own, other = (read_sample_text(path, open_bundle(bundle), role) for role in ("target", "drafter"))
    assert own.sequences[0][:3] == (0, 1, 2)
    assert [VOCAB_SIZE - 1 - token for token in other.sequences[0]] == list(own.sequences[0])
    made = build(bundle, BuildOptions(precision="int4", calibration=path, max_length=256, stage=Stage.PREPARE))
    assert {"calibration.target", "calibration.drafter"} <= set(made.manifest.provenance)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_seed_gives_one_text_with_drafts_and_without(batch: int, place: Path) -> None:
    options: dict[str, Any] = {"temperature": 0.8, "top_p": 0.95, "repetition_penalty": 1.1, "seed": 11}
    prompts = [prompt(length) for length in (1, 5, 40)]
    with Generator(bundle(place, draft_model(DRAFTS), batch), draft_length="fixed") as generator:
        drafted = generator.generate(prompts, max_new_tokens=NEW_TOKENS, **options)
        plain = generator.generate(prompts, max_new_tokens=NEW_TOKENS, plain=True, **options)
        alone = generator.generate(prompts[2], max_new_tokens=NEW_TOKENS, plain=True, **(options | {"seed": 13}))
    assert [r.token_ids for r in drafted] == [r.token_ids for r in plain]
    assert [r.seed for r in plain] == [11, 12, 13]
    assert alone.token_ids == plain[2].token_ids
    assert sum(r.statistics.accepted_tokens for r in drafted) > 10
