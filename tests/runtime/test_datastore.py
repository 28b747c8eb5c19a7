"""Drafts from a datastore, alone and before a model, in real builds; and datastores that do not fit."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.errors import BundleError, UsageError
from ptgc.exporters import export
from ptgc.runtime import Generator, _core
from ptgc.spec.strategies.datastore import datastore
from ptgc.spec.strategies.draft_model import draft_model
from ptgc.spec.strategies.merged import Lookup, with_lookup
from ptgc.spec.vocabulary import vocabulary_sha256
from tests.bundles import tiny_build
from tests.models import VOCAB_SIZE, greedy, prompt, save, tiny_model
from tests.runtime.test_draft_model import drafter
from tests.tokenizers import byte_level, fast
from tests.untrained import command

NEW_TOKENS = 40
LIMIT, LONGEST, SHORTEST = 7, 6, 2
PROMPTS = [prompt(9), prompt(30), prompt(5, 1), prompt(12, 2)]


@cache
def texts() -> list[list[int]]:
    """What the model writes after the prompts, and parts of it that go on in another way."""
    found = []
    for ids in PROMPTS:
        text = [*ids, *greedy(tiny_model("llama"), ids, NEW_TOKENS)]
        parts = [
            [*text[max(0, at - 8) : at], text[at] ^ 1, *text[at : at + 3]] for at in range(len(ids) + 2, len(text), 3)
        ]
        found += [text, text[5:-7], *parts]
    return found


def write_store(path: Path, digest: str = "0" * 64, vocab_size: int = VOCAB_SIZE) -> Path:
    writer = _core.DatastoreWriter(vocab_size, digest)
    for text in texts():
        writer.append(text)
        writer.end_document()
    writer.write(path)
    return path


def drafts(text: list[int]) -> tuple[list[int], list[int]]:
    """Tokens and parents of a tree, by looking at every place of the datastore (REST, section 3)."""
    written = [token for document in texts() for token in (*document, -1)]

    def following(length: int) -> list[list[int]]:
        places = [at for at in range(0, len(written), 2) if written[at : at + length] == text[-length:]]
        rests = [written[at + length :] for at in places]
        return [rest[: rest.index(-1)] for rest in rests]

    lengths = [length for length in range(SHORTEST, min(LONGEST, len(text)) + 1) if following(length)]
    longest = max(lengths, default=0)
    found = [rest for length in (longest, longest - 1) if length in lengths for rest in following(length)]
    passing: Counter[tuple[int, ...]] = Counter(
        tuple(rest[:depth]) for rest in found for depth in range(1, len(rest) + 1)
    )
    tokens: list[int] = []
    parents: list[int] = []
    nodes: dict[tuple[int, ...], int] = {(): 0}
    while len(nodes) <= LIMIT:
        open_ones = [path for path in passing if path not in nodes and path[:-1] in nodes]
        if not open_ones:
            break
        best = min(open_ones, key=lambda path: (-passing[path], len(path), path[-1]))
        tokens.append(best[-1])
        parents.append(nodes[best[:-1]])
        nodes[best] = len(nodes)
    return tokens, parents


@cache
def built(place: Path) -> Path:
    """A bundle that drafts from a datastore, with builds of one and of four rows."""
    path = export(
        {"target": tiny_model("llama")}, datastore(LIMIT, LONGEST, SHORTEST, branching=True), place / "datastore"
    )
    for batch in (1, 4):
        build(path, BuildOptions(precision="float32", max_length=128, batch_size=batch, stage=Stage.PREPARE))
    write_store(place / "store")
    return path


def test_every_round_drafts_what_the_paper_says(place: Path) -> None:
    path, shapes, accepted = built(place), set(), 0
    with Generator(path, build="onnxruntime-cpu-float32-l128", draft_length="fixed", datastore=place / "store") as one:
        for ids in PROMPTS:
            text = ids
            for done in one.generate(ids, max_new_tokens=NEW_TOKENS, trace=True).trace:
                if len(text) > len(ids) and len(ids) + NEW_TOKENS - len(text) > LIMIT:
                    assert (done.drafted_ids, done.parents) == drafts(text)
                    shapes.add(tuple(done.parents))
                    accepted += done.accepted
                text = [*text, *done.emitted_ids]
            assert text[len(ids) :] == greedy(tiny_model("llama"), ids, NEW_TOKENS)
    assert accepted > NEW_TOKENS
    assert len(shapes) > 4


@pytest.mark.parametrize("batch", ["", "-b4"])
def test_drafts_change_nothing(place: Path, batch: str) -> None:
    name = f"onnxruntime-cpu-float32-l128{batch}"
    with Generator(built(place), build=name, draft_length="fixed", datastore=str(place / "store")) as one:
        results = one.generate(PROMPTS, max_new_tokens=NEW_TOKENS)
        assert [it.token_ids for it in results] == [greedy(tiny_model("llama"), ids, NEW_TOKENS) for ids in PROMPTS]
        assert sum(it.statistics.accepted_tokens for it in results) > NEW_TOKENS
        options = {"max_new_tokens": NEW_TOKENS, "temperature": 0.8, "seed": 3}
        sampled, plain = (one.generate(PROMPTS, plain=kind, **options) for kind in (False, True))
    assert [it.token_ids for it in sampled] == [it.token_ids for it in plain]


def test_without_a_datastore_rounds_are_plain_and_say_why(place: Path) -> None:
    with Generator(built(place), build="onnxruntime-cpu-float32-l128") as one:
        result, plain = (one.generate(PROMPTS[0], max_new_tokens=9, plain=kind) for kind in (False, True))
    assert result.token_ids == greedy(tiny_model("llama"), PROMPTS[0], 9)
    assert result.statistics.plain_rounds == result.statistics.rounds
    assert result.statistics.fallback_reason == "no datastore was given"
    assert plain.statistics.fallback_reason is None


def test_a_model_drafts_where_nothing_is_found(place: Path) -> None:
    plan = with_lookup(draft_model(3), Lookup.DATASTORE)
    path = export({"target": tiny_model("llama"), "drafter": drafter()}, plan, place / "datastore-first")
    build(path, BuildOptions(precision="float32", max_length=128, stage=Stage.PREPARE))
    ids = prompt(20, 7)
    with Generator(path, draft_length="fixed", datastore=write_store(place / "merged-store")) as one:
        results = [one.generate(given, max_new_tokens=NEW_TOKENS, trace=True) for given in (PROMPTS[1], ids)]
    for given, result in zip((PROMPTS[1], ids), results, strict=True):
        assert result.token_ids == greedy(tiny_model("llama"), given, NEW_TOKENS)
    assert {done.part for result in results for done in result.trace if done.drafted_ids} == {0, 1}


def test_datastores_that_do_not_fit_are_refused(place: Path, tmp_path: Path) -> None:
    path, store = built(place), write_store(tmp_path / "store")
    for wrong, reason in (
        (write_store(tmp_path / "large", vocab_size=VOCAB_SIZE + 1), "the tokens of another tokenizer"),
        (tmp_path / "nothing", "No such file"),
        (tmp_path, "it is no regular file"),
    ):
        with pytest.raises((UsageError, BundleError), match=reason):
            Generator(path, datastore=wrong)
    store.write_bytes(store.read_bytes()[:-1])
    with pytest.raises(BundleError, match="it is truncated"):
        Generator(path, datastore=store)
    with pytest.raises(UsageError, match="datastore is 3; it must be a path"):
        Generator(path, datastore=3)
    other = tiny_build(place, "llama")
    with pytest.raises(UsageError, match="the strategy 'ngram' of this bundle does not read one"):
        Generator(other, datastore=place / "store")


def test_the_public_commands(tmp_path: Path) -> None:
    checkpoint, bundle, store = tmp_path / "model", tmp_path / "bundle", tmp_path / "store"
    checkpoint.mkdir()
    save(tiny_model("llama"), checkpoint)
    fast(byte_level()).save_pretrained(checkpoint)
    text = tmp_path / "text.txt"
    text.write_text("abcdefghij " * 20, encoding="utf-8")
    command("export", checkpoint, "-o", bundle, "--strategy", "datastore", "--num-draft-tokens", 6)
    command("build", bundle, "--precision", "int8", "--max-length", 64)
    command("datastore", text, "--tokenizer", bundle, "-o", store)
    asked = ("-p", "abcdefgh", "--max-new-tokens", 24, "--datastore", store, "--draft-length", "fixed")
    drafted, plain = (json.loads(command("run", bundle, *asked, *kind, "--json")) for kind in ((), ("--plain",)))
    assert drafted["token_ids"] == plain["token_ids"]
    assert (drafted["strategy"], drafted["lossless"]) == ("datastore", True)
    assert drafted["stats"]["drafted_tokens"] > 0
    stages = json.loads(command("check", bundle, "--datastore", store, "--json"))["stages"]
    assert all(stage["passed"] for stage in stages)
    manifest = json.loads(command("inspect", bundle, "--json"))["manifest"]
    assert manifest["plan"]["drafter"]["kind"] == "datastore"
    assert manifest["model"]["vocabulary_sha256"] == vocabulary_sha256(byte_level().get_vocab())
    _refuse_another_tokenizer(bundle, tmp_path)
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"id": "a", "prompt": "abcdefghij abcd"}\n', encoding="utf-8")
    asked = ("--prompts", prompts, "--max-new-tokens", 8)
    tuned: Any = json.loads(command("tune", bundle, *asked, "--threads", 1, "--datastore", store, "--json"))
    assert tuned["chosen"]["build"]
    with pytest.raises(AssertionError, match="This bundle drafts from a datastore"):
        command("tune", bundle, *asked)


def _refuse_another_tokenizer(bundle: Path, folder: Path) -> None:
    store = write_store(folder / "other", digest="1" * 64)
    with pytest.raises(UsageError, match="has the tokens of another tokenizer than this bundle's"):
        Generator(bundle, datastore=store)
