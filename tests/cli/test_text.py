"""Text that is not UTF-8, and chat messages with their options, through `ptgc run`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from ptgc.cli.app import app
from tests import tokenizers

_USER = {"role": "user", "content": "hi"}


@pytest.fixture(scope="module")
def bundle(place: Path) -> Path:
    return tokenizers.text_build(place, "byte-level")


def _ptgc(*arguments: object, **environment: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "ptgc", *(arg if isinstance(arg, bytes) else str(arg) for arg in arguments)]
    return subprocess.run(command, capture_output=True, env={**os.environ, **environment}, check=False)


def _run(bundle: Path, *arguments: object) -> Any:
    result: Any = CliRunner().invoke(app, ["run", str(bundle), "--json", *map(str, arguments)])
    return result


def test_a_prompt_that_is_no_utf8_is_read_with_replacement_characters(bundle: Path) -> None:
    latin = _ptgc("run", bundle, "-p", b"caf\xe9", "--stop", b"\xff", "--max-new-tokens", 4, "--json")
    assert latin.returncode == 0, latin.stderr
    expected = json.loads(_run(bundle, "-p", "caf\ufffd", "--max-new-tokens", 4).stdout)
    assert json.loads(latin.stdout)["token_ids"] == expected["token_ids"]


def test_a_terminal_without_a_character_shows_another(bundle: Path) -> None:
    arguments = ("run", bundle, "-p", "é", "--max-new-tokens", 30)
    ascii_ = {"PYTHONIOENCODING": "ascii"}
    assert _ptgc(*arguments, **ascii_).returncode == 0
    as_json = _ptgc(*arguments, "--json", **ascii_)
    assert as_json.stdout.isascii()
    assert json.loads(as_json.stdout)["text"] == json.loads(_run(*arguments[1:]).stdout)["text"]
    assert _ptgc("inspect", b"/no/caf\xe9", "--json").returncode == 1


def test_messages_come_with_their_options(bundle: Path, tmp_path: Path) -> None:
    file, plain = tmp_path / "chat.json", tmp_path / "plain.json"
    prefill = [_USER, {"role": "assistant", "content": "It is"}]
    file.write_text(json.dumps({"messages": prefill, "continue_final_message": True, "tools": None}))
    plain.write_text(json.dumps(prefill))
    by_file = json.loads(_run(bundle, "--messages", file, "--max-new-tokens", 4).stdout)
    by_option = _run(bundle, "--messages", plain, "--continue-final-message", "--max-new-tokens", 4)
    assert by_file["token_ids"] == json.loads(by_option.stdout)["token_ids"]
    named = ("--template-arguments", '{"bos_token": "X"}')
    other = json.loads(_run(bundle, "--messages", file, *named, "--max-new-tokens", 4).stdout)
    assert other["stats"]["prompt_tokens"] == by_file["stats"]["prompt_tokens"] + 1


def test_stop_tokens_and_the_draft_length_are_options(bundle: Path) -> None:
    whole = json.loads(_run(bundle, "-p", "abc", "--max-new-tokens", 8).stdout)["token_ids"]
    options = ("--stop-token-ids", f"{whole[3]},511", "--draft-length", "fixed")
    came = json.loads(_run(bundle, "-p", "abc", "--max-new-tokens", 8, *options).stdout)
    assert came["token_ids"] == whole[: whole.index(whole[3]) + 1]
    assert came["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "content",
    [
        b'[{"role": "user", "content": "caf\xe9"}]',
        b"{}",
        b"[" * 100_000,
        b'{"messages": [{"role": "user", "content": "x"}], "colour": 1}',
        b'{"messages": [{"role": "user", "content": "x"}], "tools": 1}',
        b"[]",
    ],
)
def test_messages_that_cannot_be_used_are_usage_errors(bundle: Path, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "chat.json").write_bytes(content)
    assert _run(bundle, "--messages", tmp_path / "chat.json").exit_code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("-p", "x", "--draft-length", "long"),
        ("-p", "x", "--template-arguments", "{}", "--continue-final-message"),
        ("-p", "x", "--template-arguments", "[1]"),
        ("-p", "x", "--stop-token-ids", "1,x"),
        ("-p", "x", "--temperature", "nan"),
    ],
)
def test_options_that_cannot_be_used_are_usage_errors(bundle: Path, arguments: tuple[str, ...]) -> None:
    assert _run(bundle, *arguments).exit_code == 2
