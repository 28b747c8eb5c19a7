"""Checkpoints of EAGLE drafters: exported by the command, and round by round as the paper's loop drafts."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from ptgc.errors import CheckpointError, ExportError
from ptgc.exporters.from_checkpoint import open_sources
from ptgc.exporters.modules.eagle import EagleDrafter
from ptgc.exporters.strategies.base import exporter_of
from ptgc.exporters.strategies.eagle import eagle_drafter as read_eagle
from ptgc.exporters.strategies.eagle3 import eagle3_drafter as read_eagle3
from ptgc.spec.strategies.eagle import EagleOptions
from tests.drafter_checkpoints import (
    NEW_TOKENS,
    Change,
    Tensors,
    accepted_in_rounds,
    check_refused,
    having,
    run,
    target_folder,
    without,
    write,
)
from tests.eagle import drafts, eagle_drafter, eagle_drafts
from tests.models import greedy, prompt, tiny_model
from tests.runtime import test_eagle3 as eagle3

NORMS = ("embed_layernorm", "hidden_layernorm", "lm_head_layernorm")


def weights() -> Tensors:
    """The drafter as SafeAILab/EAGLE names its tensors, with a copy of the target's embedding."""
    drafter = eagle_drafter()
    layer = drafter.model.layers[0].state_dict()
    return {
        "embed_tokens.weight": tiny_model("llama").get_input_embeddings().weight.clone(),
        **{f"fc.{name}": one for name, one in drafter.fc.state_dict().items()},
        **{f"layers.0.{name}": one for name, one in layer.items()},
    }


def speculators(tensors: Tensors) -> Tensors:
    """The same by the names of vllm-project/speculators, which has no embedding."""
    names = {"fc.": "fusion_fc.", "layers.0.": "transformer.", "hidden_layernorm.": "transformer.input_layernorm."}
    names |= {"embed_layernorm.": "embedding_layernorm.", "lm_head_layernorm.": "pre_lm_head_layernorm."}
    found = {}
    for name, tensor in tensors.items():
        prefix = next((one for one in names if name.startswith(one)), "")
        if prefix:
            found[names[prefix] + name.removeprefix(prefix)] = tensor
    return found


def settings() -> dict[str, Any]:
    """Its config.json."""
    made: dict[str, Any] = eagle_drafter().config.to_diff_dict()
    return made | {"architectures": ["LlamaForCausalLM"]}


@cache
def exported(place: Path) -> Path:
    """A bundle and its build, by the public commands."""
    drafter, path = write(place / "eagle-drafter", weights(), settings()), place / "eagle"
    options = ("--strategy", "eagle", "--drafter", drafter, "--num-draft-tokens", 3)
    run("export", target_folder(place), "-o", path, *options)
    run("build", path, "--precision", "float32", "--max-length", 512, "--stage", "prepare")
    return path


def test_commands_run_and_check_it(place: Path) -> None:
    ids = prompt(5)
    given = ",".join(map(str, ids))
    made = run("run", exported(place), "--prompt-ids", given, "--max-new-tokens", NEW_TOKENS)
    assert made.strip() == ",".join(map(str, greedy(tiny_model("llama"), ids, NEW_TOKENS)))
    run("check", exported(place))
    assert "eagle" in run("inspect", exported(place))


def test_every_round_drafts_what_the_paper_says(place: Path) -> None:
    given = weights()
    accepted = accepted_in_rounds(exported(place), lambda ids: eagle_drafts(tiny_model("llama"), given, ids, 3))
    assert all(count in accepted for count in range(4))
    assert 0.3 < sum(accepted) / (3 * len(accepted)) < 0.9


def read(target: Path, folder: Path) -> EagleDrafter:
    """The drafter that is exported."""
    sources = open_sources(target, EagleOptions(str(folder)))
    found = exporter_of(sources.strategy).modules(sources, lambda _: None)["drafter"]
    assert isinstance(found, EagleDrafter)
    return found


def test_other_layouts_are_the_same_drafter(place: Path, tmp_path: Path) -> None:
    old = weights() | {"layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
    nested = {"transformer_layer_config": settings(), "speculators_model_type": "eagle", "fusion_bias": True}
    folders = (
        write(tmp_path / "speculators", speculators(weights()), nested),
        write(tmp_path / "pickled", old, settings(), file="pytorch_model.bin"),
    )
    expected = eagle_drafter().state_dict()
    for folder in folders:
        found = read(target_folder(place), folder).state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(one, expected[name]) for name, one in found.items())


@pytest.mark.parametrize("rename", [dict, speculators])
def test_norms_and_biases_are_applied_where_there_are_some(
    place: Path, tmp_path: Path, rename: Callable[[Tensors], Tensors]
) -> None:
    torch.manual_seed(1)
    more = {f"{name}.weight": 1 + 0.3 * torch.randn(64) for name in NORMS}
    rows = {"q": 64, "k": 32, "v": 32}
    more |= {f"layers.0.self_attn.{name}_proj.bias": 0.3 * torch.randn(count) for name, count in rows.items()}
    drafter = read(target_folder(place), write(tmp_path / "drafter", rename(weights() | more), settings()))
    for length in (5, 40):
        ids = prompt(length)
        made = drafts(tiny_model("llama"), drafter, ids, 5)
        assert made == eagle_drafts(tiny_model("llama"), weights() | more, ids, 5)
        assert made != eagle_drafts(tiny_model("llama"), weights(), ids, 5)


def test_a_drafter_may_have_more_layers_and_an_embedding_of_its_own(place: Path, tmp_path: Path) -> None:
    given = {name.replace("layers.0", "layers.1"): one.clone() for name, one in weights().items()} | weights()
    given |= {"embed_tokens.weight": given["embed_tokens.weight"].flip(0)}
    given |= {"layers.1.input_layernorm.weight": torch.ones(64)}
    drafter = read(target_folder(place), write(tmp_path / "drafter", given, settings()))
    for length in (5, 40):
        ids = prompt(length)
        assert drafts(tiny_model("llama"), drafter, ids, 5) == eagle_drafts(tiny_model("llama"), given, ids, 5)


def test_weights_have_the_targets_type_and_frequencies_are_not_rounded(place: Path) -> None:
    target: Any = AutoModelForCausalLM.from_pretrained(target_folder(place), dtype=torch.bfloat16)
    for drafter in (
        read_eagle(target, LlamaConfig(**settings()), weights()),
        read_eagle3(target, LlamaConfig(**eagle3.settings()), eagle3.weights()),
    ):
        assert {one.dtype for one in drafter.parameters()} == {torch.bfloat16}
        assert torch.equal(drafter.model.rotary_emb.inv_freq, target.model.rotary_emb.inv_freq)
        assert target.model.rotary_emb.inv_freq.dtype is torch.float32


def test_the_embedding_and_the_head_are_the_targets(place: Path) -> None:
    drafter = sum(file.stat().st_size for file in (exported(place) / "graphs").glob("drafter*"))
    own = sum(one.numel() * 4 for name, one in weights().items() if name != "embed_tokens.weight")
    assert drafter < own + tiny_model("llama").get_input_embeddings().weight.numel() * 4


@pytest.mark.parametrize(
    ("change", "config", "error", "said"),
    [
        (without("fc.weight"), {}, CheckpointError, r"neither fc\.weight nor fusion_fc\.weight"),
        (
            without("layers.0.self_attn.q_proj.weight", "layers.0.mlp.up_proj.weight"),
            {},
            CheckpointError,
            r"lack 2 tensors, missing: model\.layers\.0\.mlp\.up_proj\.weight, model\.layers\.0\.self_attn\.q_proj",
        ),
        (having(**{"layers.0.extra": torch.ones(2)}), {}, CheckpointError, "unexpected: model.layers.0.extra"),
        (having(**{"fc.bias": torch.ones(3)}), {}, CheckpointError, r"fc\.bias is \[3\]"),
        (
            having(**{"fc.weight": torch.ones(64, 192)}),
            {},
            ExportError,
            "reads 192 numbers, but .* 128.*strategy eagle3",
        ),
        (having(d2t=torch.zeros(9)), {}, ExportError, "vocabulary of its own"),
        (having(**{"embed_tokens.weight": torch.ones(500, 64)}), {}, ExportError, "has 500 tokens, the target's 512"),
        (without("embed_tokens.weight"), {"vocab_size": 99}, ExportError, "has 99 tokens, the target's 512"),
        (having(d2t=torch.zeros(9)), {"hidden_size": 32}, ExportError, "hidden size is 32, the target's 64.*d2t"),
    ],
)
def test_drafters_of_other_targets_and_damaged_ones_are_refused(
    place: Path,
    tmp_path: Path,
    change: Change,
    config: dict[str, Any],
    error: type[Exception],
    said: str,
) -> None:
    folder = write(tmp_path / "drafter", change(weights()), settings() | config)
    check_refused(place, EagleOptions(str(folder)), error, said)
