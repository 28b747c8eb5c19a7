"""Prompts: the committed sets, and files that are wrong."""

from __future__ import annotations

import json
import os
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
        ('{"id": "a", "prompt": "\\ud800"}\n', "line 1"),
        ('{"id": "a", "token_ids": [NaN]}\n', "line 1"),
        ('{"id": "a", "token_ids": ' + "[" * 100_000 + "]" * 100_000 + "}\n", "line 1"),
        ('{"id": "a", "id": "b", "prompt": "x"}\n', "line 1"),
        ("\ufeff" + '{"id": "a", "prompt": "x"}\n', "line 1"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, content: str, problem: str) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=problem):
        read_entries(file)


@pytest.mark.parametrize("kind", ["pipe", "folder", "utf-16"])
def test_what_is_no_file_of_text_is_refused(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "prompts.jsonl"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.write_text('{"id": "a", "prompt": "x"}\n', encoding="utf-16")
    with pytest.raises(UsageError, match="Cannot read the prompts"):
        read_entries(file)


def test_a_line_may_hold_other_ends_of_lines(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"id": "a", "prompt": "x\u2028y\x85z"}\r\n', encoding="utf-8", newline="")
    assert read_entries(file) == [{"id": "a", "prompt": "x\u2028y\x85z"}]


@pytest.mark.parametrize("token", [1 << 31, 1 << 64, -1, True, 5.0, "5", None])
def test_token_ids_that_no_vocabulary_has_are_refused(place: Path, tmp_path: Path, token: object) -> None:
    file = tmp_path / "ids.jsonl"
    file.write_text(json.dumps({"id": "x", "token_ids": [token]}) + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match="token ids that are"):
        read_prompts(file, open_bundle(tiny_bundle(place, "llama")), None)


@pytest.mark.parametrize("name", ["x" * 5000, "a/" * 2000, "a\0b"])
def test_a_name_that_no_file_can_have_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="There are no prompts"):
        prompt_file(name)


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
