"""Conversions for peers: cached, in their own process, and the GGUF files that two of them start from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import pytest
from safetensors.numpy import load_file

from ptgc.bench import convert, converted
from ptgc.bench.checkpoint_files import CheckpointFiles
from ptgc.bench.converters.llama_gguf import check_config, interleaved, write_gguf
from ptgc.errors import BuildError, CheckpointError

CHECKPOINT = CheckpointFiles(Path("smol"), {"model.safetensors": "1"})
PLAIN = {
    "model_type": "llama",
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "rope_parameters": {"rope_type": "default"},
}


@pytest.mark.parametrize("peer", converted.FORMATS)
def test_a_checkpoint_is_converted_once_for_each_precision_and_version(
    peer: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[Sequence[str]] = []

    def run(arguments: Sequence[str], product: Path, failure: str) -> None:
        ran.append(arguments)
        product.write_bytes(b"weights")

    versions = ["1.0"]
    monkeypatch.setenv("PTGC_CACHE", str(tmp_path))
    monkeypatch.setattr(converted, "run_converter", run)
    monkeypatch.setattr(converted, "version", lambda package: versions[-1])
    said: list[str] = []

    def make(precision: str) -> Path:
        return converted.converted(peer, CHECKPOINT, precision, said.append)

    assert make("int8") == make("int8")
    assert make("int8") != make("float32")
    versions.append("2.0")
    make("int8")
    assert [arguments[:5] for arguments in ran] == [
        ["-m", "ptgc.bench.convert", peer, "smol", precision] for precision in ("int8", "float32", "int8")
    ]
    assert said[0] == f"Converting smol for {peer} (int8)"


@pytest.mark.parametrize("ends", ["raise SystemExit('no such weights')", "print('no such weights')"])
def test_a_conversion_that_fails_or_writes_nothing_says_why(ends: str, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="It failed") as raised:
        converted.run_converter(["-c", ends], tmp_path / "none", "It failed.")
    assert raised.value.action == "no such weights"


def test_a_problem_with_the_model_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(model: Path, precision: str, output: Path) -> None:
        raise CheckpointError("It is no Llama.")

    monkeypatch.setitem(convert.CONVERTERS, "llama.cpp", refuse)
    assert convert.main(["llama.cpp", "model", "int8", "output"]) == 1
    assert capsys.readouterr().err.strip() == "It is no Llama."


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"model_type": "gpt2"}, "model_type is gpt2"),
        ({"attention_bias": True, "hidden_act": "gelu"}, "hidden_act is gelu.*attention_bias is True"),
        ({"rope_parameters": {"rope_type": "llama3"}}, "rope_type is llama3"),
    ],
)
def test_models_that_gguf_would_not_describe_are_refused(changed: dict[str, Any], named: str) -> None:
    check_config(SimpleNamespace(**PLAIN))
    with pytest.raises(CheckpointError, match=named):
        check_config(SimpleNamespace(**{**PLAIN, **changed}))


def test_a_head_s_two_halves_alternate() -> None:
    config = SimpleNamespace(num_attention_heads=2, num_key_value_heads=1)
    rows = np.arange(8, dtype=np.float32)[:, None]  # 2 heads of 4 rows, one column
    assert interleaved("x.q_proj.weight", rows, config)[:, 0].tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
    assert interleaved("x.k_proj.weight", rows, config)[:, 0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    assert interleaved("x.v_proj.weight", rows, config) is rows


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_gguf_file_has_the_weights_and_sizes_of_the_checkpoint(dtype: Any, target: Path, tmp_path: Path) -> None:
    write_gguf(target, tmp_path / "model.gguf", dtype)
    read = gguf.GGUFReader(tmp_path / "model.gguf")
    stored = {tensor.name: tensor.data for tensor in read.tensors}
    weights = load_file(target / "model.safetensors")
    assert len(stored) == len(weights)
    assert stored["blk.1.ffn_up.weight"].dtype == dtype
    assert stored["output_norm.weight"].dtype == np.float32
    up = weights["model.layers.1.mlp.up_proj.weight"]
    np.testing.assert_array_equal(stored["blk.1.ffn_up.weight"], up.astype(dtype))
    assert read.fields["llama.attention.head_count_kv"].contents() == 2
    assert read.fields["llama.rope.freq_base"].contents() == 10000.0
