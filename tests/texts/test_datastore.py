"""Datastores hold every document's tokens; texts that cannot be read leave nothing behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ptgc.cli.app import app
from ptgc.runtime import _core
from ptgc.texts.datastore import find_tokenizer
from tests.tokenizers import CHAT_TEMPLATE, byte_level, fast

LONG = "".join(f"def f{number}(x):\n    return x + {number}\n\n" for number in range(200)) + "x" * 9000


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """A folder with a tokenizer whose tokens are bytes."""
    folder = tmp_path / "tokenizer"
    fast(byte_level(), chat_template=CHAT_TEMPLATE).save_pretrained(folder)
    return folder


def datastore(*arguments: object, text: bytes | None = None) -> Result:
    return CliRunner().invoke(app, ["datastore", *map(str, arguments)], input=text)


def documents(path: Path, tokenizer: Path) -> list[str]:
    """The texts in a datastore."""
    store, codec = _core.Datastore(path), find_tokenizer(tokenizer)
    found: list[list[int]] = [[]]
    for place in range(store.num_tokens):
        token = store.token(place)
        if token < 0:
            found.append([])
        else:
            found[-1].append(token)
    assert found.pop() == []
    return [codec.decode(ids) for ids in found]


def test_every_document_is_kept_whole(tmp_path: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ptgc.texts.documents._PIECE", 1000)
    monkeypatch.setattr("ptgc.texts.documents._LONGEST_PIECE", 2000)
    texts = ["a\r\nb \u00e9\u65e5\n", LONG, "from a line", "from another", "in a folder", "from stdin"]
    (tmp_path / "a.txt").write_text(texts[0], encoding="utf-8", newline="")
    (tmp_path / "long.py").write_text(LONG, encoding="utf-8")
    (tmp_path / "lines.jsonl").write_text(
        json.dumps({"text": texts[2]}) + "\n\n" + json.dumps({"text": texts[3]}), encoding="utf-8"
    )
    (tmp_path / "folder" / "in").mkdir(parents=True)
    (tmp_path / "folder" / "binary").write_bytes(b"\xff\xfe\0")
    (tmp_path / "folder" / "empty").touch()
    (tmp_path / "folder" / "in" / "it").write_text(texts[4], encoding="utf-8")
    output = tmp_path / "made" / "store"
    given = [tmp_path / name for name in ("a.txt", "long.py", "lines.jsonl", "folder")]
    made = datastore(*given, "-", "--tokenizer", tokenizer, "-o", output, "--json", text=texts[5].encode())
    assert made.exit_code == 0, made.output
    assert "folder: 1 files that are no text were left out" in made.stderr
    assert documents(output, tokenizer) == texts
    report = json.loads(made.stdout)
    assert (report["documents"], report["vocab_size"]) == (len(texts), 259)
    assert report["tokens"] == sum(len(text.encode()) + 1 for text in texts)
    assert report["bytes"] == output.stat().st_size == 104 + 2 * report["tokens"] + 4 * ((report["tokens"] + 1) // 2)
    assert json.loads(datastore(output, "--info", "--json").stdout) == report


def test_messages_are_written_by_the_chat_template(tmp_path: Path, tokenizer: Path) -> None:
    messages = [{"role": "user", "content": "hi"}]
    (tmp_path / "chat.jsonl").write_text(json.dumps({"messages": messages}), encoding="utf-8")
    assert datastore(tmp_path / "chat.jsonl", "--tokenizer", tokenizer, "-o", tmp_path / "store").exit_code == 0
    codec = find_tokenizer(tokenizer)
    assert documents(tmp_path / "store", tokenizer) == [codec.decode(codec.encode_messages(messages))]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", b"", "The texts are empty"),
        ("a.txt", b"\xff\xfe", "a.txt: it is not UTF-8 text"),
        ("a.txt", b"text \xe2\x82", "a.txt: it is not UTF-8 text"),
        ("a.txt", b"MZ\0\0", "a.txt: it has null bytes, so it is no text"),
        ("a.txt", None, "a.txt: No such file or directory"),
        ("a.jsonl", b'{"text": "a"}\n{"text": 3}\n', "a.jsonl:2 is no document"),
        ("a.jsonl", b"[1]", "a.jsonl:1 is no document"),
        ("a.jsonl", b"{", "a.jsonl:1 "),
        ("a.jsonl", b'{"text": "\\ud800"}', "half of a surrogate pair"),
        ("a.jsonl", b'{"messages": [{"content": 3}]}', "message"),
    ],
)
def test_texts_that_cannot_be_read_leave_nothing(
    tmp_path: Path, tokenizer: Path, name: str, content: bytes | None, reason: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    before = sorted(tmp_path.iterdir())
    result = datastore(tmp_path / name, "--tokenizer", tokenizer, "-o", tmp_path / "store")
    assert (result.exit_code, reason in result.stderr) == (2, True), result.output
    assert sorted(tmp_path.iterdir()) == before


def test_an_existing_file_is_only_replaced_with_force(tmp_path: Path, tokenizer: Path) -> None:
    text, output = tmp_path / "a.txt", tmp_path / "store"
    text.write_text("some text", encoding="utf-8")
    output.write_text("mine", encoding="utf-8")
    asked = [text, "--tokenizer", tokenizer, "-o"]
    for refused, reason in (
        ([*asked, output], "exists already"),
        ([*asked, text, "--force"], "is one of the texts"),
        ([*asked, "/dev/null", "--force"], "is no regular file"),
        ([*asked, tmp_path, "--force"], "it is a folder"),
    ):
        result = datastore(*refused)
        assert (result.exit_code, reason in result.stderr) == (1, True)
    assert output.read_text(encoding="utf-8") == "mine"
    assert datastore(*asked, output, "--force").exit_code == 0
    assert documents(output, tokenizer) == ["some text"]


def test_contradictory_options_are_refused(tmp_path: Path, tokenizer: Path) -> None:
    (tmp_path / "a.txt").write_text("text", encoding="utf-8")
    cases: list[tuple[list[Any], str]] = [
        (["-o", "store"], "needs --tokenizer and --output"),
        (["--info", "-o", "store"], "--info takes one datastore"),
        (["--tokenizer", tmp_path, "-o", tmp_path / "store"], "no folder with a tokenizer.json"),
    ]
    for options, reason in cases:
        result = datastore(tmp_path / "a.txt", *options)
        assert (result.exit_code, reason in result.stderr) == (2, True)
    shown = datastore(tmp_path / "a.txt", "--info")
    assert (shown.exit_code, "it is no datastore" in shown.stderr) == (1, True)
