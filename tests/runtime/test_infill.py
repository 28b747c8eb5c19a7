"""Prompts that spell mask tokens, and what a canvas cannot do, through the public calls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from ptgc.cli.app import app
from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.errors import CapacityError, UsageError
from ptgc.exporters import export_checkpoint
from ptgc.runtime import Generator
from tests.other_models import tiny_bert, words

MASK = 3
TEXT, IDS = "w9 <mask> w11 <mask> w12", [9, MASK, 11, MASK, 12]


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Generator]:
    """A masked LM with a tokenizer that spells its mask."""
    folder = tmp_path_factory.mktemp("infill")
    tiny_bert().save_pretrained(folder / "model")
    tokenizer = words(pad_token="<pad>", cls_token="<cls>", sep_token="<sep>", mask_token="<mask>")
    tokenizer.save_pretrained(folder / "model")
    bundle = export_checkpoint(folder / "model", folder / "bundle", {"num_steps": 4})
    build(bundle, BuildOptions(precision="float32", batch_size=2, max_length=24, stage=Stage.PREPARE))
    with Generator(bundle) as found:
        yield found


def test_masks_of_a_text_are_filled_in_only_if_that_is_asked_for(generator: Generator) -> None:
    expected = generator.generate(IDS).token_ids  # ids ask for it by themselves
    assert len(expected) == 4 and MASK not in expected and expected[1] == 11
    assert generator.generate(TEXT, infill=True).token_ids == expected
    for prompt in (TEXT, ["w9", TEXT]):
        with pytest.raises(UsageError, match="holds the mask token, '<mask>'") as raised:
            generator.generate(prompt)
        assert "--infill" in str(raised.value)
    with pytest.raises(UsageError, match="the prompt has no mask token, '<mask>'"):
        generator.generate("w9 w11", infill=True)
    assert len(generator.generate("w9 w11", max_new_tokens=3).token_ids) == 3


def test_a_session_takes_masks_as_token_ids_only(generator: Generator) -> None:
    with generator.session() as session:
        with pytest.raises(UsageError, match="holds the mask token, '<mask>'"):
            session.append(TEXT)
        session.append(IDS)
        assert session.generate().token_ids == generator.generate(IDS).token_ids
        session.append("w20")
        assert len(session.generate(max_new_tokens=2).token_ids) == 2


def _run(generator: Generator, *arguments: object) -> Any:
    result = CliRunner().invoke(app, ["run", str(generator.bundle.path), *map(str, arguments), "--json"])
    return json.loads(result.stdout) | {"exit_code": result.exit_code}


def test_the_command_line_asks_for_infilling(generator: Generator) -> None:
    refused = _run(generator, "--prompt", TEXT)
    assert refused["exit_code"] == 2 and "holds the mask token" in refused["error"]["message"]
    assert _run(generator, "--prompt", TEXT, "--infill")["token_ids"] == generator.generate(IDS).token_ids


def test_a_text_that_does_not_fit_or_a_threshold_out_of_range_is_refused(generator: Generator) -> None:
    with pytest.raises(CapacityError, match="24"):
        generator.generate([5] * 12, max_new_tokens=13)
    with pytest.raises(CapacityError, match="24"):
        generator.generate([5, MASK] * 13)
    with pytest.raises(UsageError, match=r"threshold is 1\.5"):
        generator.generate([5], max_new_tokens=2, threshold=1.5)
    refused = _run(generator, "--prompt-ids", "5", "--max-new-tokens", 24)
    assert refused["exit_code"] == 1 and "24" in refused["error"]["message"]
    assert _run(generator, "--prompt-ids", "5", "--threshold", "-1")["exit_code"] == 2
