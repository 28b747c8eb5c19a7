"""Tests of the context of models with scaled rotary frequencies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.exporters import export_checkpoint
from ptgc.exporters.tracing.rotary_frequencies import scaled_length
from ptgc.runtime import Generator
from ptgc.spec.bundle import open_bundle
from tests.models import greedy
from tests.other_models import VOCAB_SIZE, lively

_LONG = {"short_factor": [1.0] * 4, "long_factor": [2.0] * 4}


def _config(context: int, rope_type: str, **parameters: Any) -> Any:
    return LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=context,
        bos_token_id=None,
        eos_token_id=None,
        rope_parameters={"rope_type": rope_type, "rope_theta": 10000.0, **parameters},
    )


@pytest.mark.parametrize(
    ("config", "length"),
    [
        (_config(64, "default"), 64),
        (_config(64, "yarn", factor=4.0, original_max_position_embeddings=64), 256),  # as in Qwen's model cards
        (_config(64, "yarn", factor=4.0), 256),
        (_config(256, "yarn", factor=4.0, original_max_position_embeddings=64), 256),  # as in DeepSeek's configurations
        (_config(64, "linear", factor=4.0), 64),
        (_config(64, "dynamic", factor=4.0), 64),
        (
            _config(
                64,
                "llama3",
                factor=32.0,
                low_freq_factor=1.0,
                high_freq_factor=4.0,
                original_max_position_embeddings=16,
            ),
            64,
        ),
        (_config(64, "longrope", **_LONG, original_max_position_embeddings=32), 32),
    ],
)
def test_positions_are_those_that_the_scaling_reaches(config: Any, length: int) -> None:
    assert scaled_length(config) == length


def test_positions_behind_the_trained_context_are_exact(tmp_path: Path) -> None:
    model = lively(LlamaForCausalLM(_config(64, "yarn", factor=4.0, original_max_position_embeddings=64)))
    model.save_pretrained(tmp_path / "model")
    export_checkpoint(tmp_path / "model", tmp_path / "bundle")
    assert open_bundle(tmp_path / "bundle").manifest.model.context_length == 256
    build(tmp_path / "bundle", BuildOptions(precision="float32", stage=Stage.PREPARE, max_length=250, build_id="made"))
    ids = [(37 * index + 5) % VOCAB_SIZE for index in range(100)]
    with Generator(tmp_path / "bundle") as generator:
        assert generator.generate(ids, max_new_tokens=100).token_ids == greedy(model, ids, 100)
