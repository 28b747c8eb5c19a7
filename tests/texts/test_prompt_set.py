"""Prompts: the committed sets, and files that are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ptgc.errors import UsageError
from ptgc.spec.bundle import open_bundle
from ptgc.texts.prompt_set import DEFAULT_SETS, prompt_file, read_entries, read_prompts, read_sets, set_names
from tests.bench.checkpoints import checkpoint_bundle
from tests.bundles import tiny_bundle


def test_every_set_has_twenty_prompts_or_more() -> None:
    assert set(set_names()) == {"chat", "code", "code-edit", "copy-heavy", "story"}
    assert set(DEFAULT_SETS) <= set(set_names())
    for name in set_names():
        assert len(read_entries(prompt_file(name))) >= 20


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "empty"),
        ('{"id": "a", "prompt": "x"}\nnot json\n[1]\n', "line 2, 3 is no prompt"),
        ('{"id": "a", "prompt": "x", "messages": []}\n', "line 1"),
        ('{"id": "a", "prompt": ["x"]}\n', "line 1"),
        ('{"id": "a"}\n', "line 1"),
        ('{"id": "a", "prompt": "x"}\n' * 2, "same id"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, content: str, problem: str) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=problem):
        read_entries(file)


def test_a_missing_file_is_refused_with_the_sets_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="copy-heavy"):
        prompt_file(str(tmp_path / "none.jsonl"))


def test_messages_are_plain_text_for_a_model_without_a_chat_template(place: Path, tmp_path: Path) -> None:
    bundle = open_bundle(checkpoint_bundle(place))
    file = tmp_path / "mine.jsonl"
    messages = [{"role": "user", "content": "ab"}]
    file.write_text(json.dumps({"id": "x", "messages": messages}) + "\n", encoding="utf-8")
    (prompt,) = read_prompts(file, bundle, None).prompts
    assert prompt.name == "mine/x"
    assert len(prompt.ids) == len("ab\n\n")


def test_a_bundle_without_a_tokenizer_takes_token_ids_only(place: Path, tmp_path: Path) -> None:
    bundle = open_bundle(tiny_bundle(place, "llama"))
    file = tmp_path / "ids.jsonl"
    file.write_text('{"id": "x", "token_ids": [5, 6, 7]}\n', encoding="utf-8")
    assert read_prompts(file, bundle, None).prompts[0].ids == (5, 6, 7)
    with pytest.raises(UsageError, match="no tokenizer"):
        read_prompts(prompt_file("chat"), bundle, None)
    (reference,) = read_sets((), bundle, 2)
    assert (reference.kind, len(reference.prompts)) == ("reference", 2)


def test_two_sets_of_one_name_are_refused(place: Path) -> None:
    bundle = open_bundle(checkpoint_bundle(place))
    with pytest.raises(UsageError, match="alike"):
        read_sets(("chat", "chat"), bundle, 1)
