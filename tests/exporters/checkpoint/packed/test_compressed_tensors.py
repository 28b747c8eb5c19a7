"""Tests of compressed-tensors' tensors and settings."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ptgc.errors import CheckpointError
from ptgc.exporters.checkpoint.packed import PackedModule, packed_format
from tests.exporters.checkpoint.packed_writing import LAYOUTS, Rounded, compressed, groups_of, naive, round_matrix

PACKED = dict(LAYOUTS["compressed-4-asymmetric"].settings)
INT8 = dict(LAYOUTS["compressed-int8"].settings)
FLOAT8 = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "channel"}
WEIGHTS = PACKED["config_groups"]["group_0"]["weights"]


def rounded(bits: int = 4, inputs: int = 64, size: int = 32, *, symmetric: bool = False) -> Rounded:
    matrix = torch.randn(20, inputs, generator=torch.Generator().manual_seed(1))
    return round_matrix(matrix, bits, size, symmetric=symmetric)


def unpack(settings: dict[str, Any], tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    return packed_format("given", settings).unpack(PackedModule("model.layer", tensors))


def test_sizes_that_do_not_fill_their_words_are_padded() -> None:
    original = rounded(inputs=52, size=4)  # 52 inputs in 7 words, 20 outputs in 3
    settings = PACKED | {"config_groups": groups_of(WEIGHTS | {"group_size": 4})}
    assert torch.equal(unpack(settings, compressed(original)), original.matrix)


def test_zero_points_may_be_bytes() -> None:
    original = rounded()
    tensors = compressed(original) | {"weight_zero_point": (original.zeros - 8).to(torch.int8)}
    assert torch.equal(unpack(PACKED, tensors), original.matrix)


@pytest.mark.parametrize("layout", ["float-quantized", "naive-quantized"])
@pytest.mark.parametrize("scales", [torch.rand(20, 1), torch.tensor([0.25]), torch.tensor(0.25)])
def test_float8_is_multiplied_with_its_scales(layout: str, scales: torch.Tensor) -> None:
    matrix = torch.randn(20, 64, generator=torch.Generator().manual_seed(1)).to(torch.float8_e4m3fn)
    settings = {"quant_method": "compressed-tensors", "format": layout, "config_groups": groups_of(FLOAT8)}
    found = unpack(settings, {"weight": matrix, "weight_scale": scales})
    assert torch.equal(found, matrix.float() * scales)


def test_groups_of_modules_may_differ() -> None:
    eight = {"targets": ["re:.*down"], "weights": WEIGHTS | {"num_bits": 8, "group_size": 16}}
    found = packed_format("given", PACKED | {"config_groups": PACKED["config_groups"] | {"group_1": eight}})
    assert [scheme.bits for scheme in found.schemes] == [4, 8]
    for bits, size in ((4, 32), (8, 16)):
        original = rounded(bits, size=size)
        assert torch.equal(found.unpack(PackedModule("layer", compressed(original))), original.matrix)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight_scale": None}, r"layer\.weight_scale' is missing"),
        ({"weight_packed": None}, r"layer\.weight_packed' is missing"),
        ({"weight_shape": None}, r"layer\.weight_shape' is missing"),
        ({"weight_zero_point": None}, r"weight_zero_point' is missing, but the weights are not symmetric"),
        ({"weight_shape": torch.tensor([20, 80])}, "has 8 words for 80 inputs"),
        ({"weight_shape": torch.tensor([24, 64])}, r"weight_packed' is \[20, 8\]; .* makes \[24, 8\]"),
        ({"weight_shape": torch.tensor([20])}, r"weight_shape' is \[20\]"),
        ({"weight_shape": torch.tensor([-20, 64])}, r"weight_shape' is \[-20, 64\]"),
        ({"weight_scale": torch.rand(20, 4)}, r"weight_scale' is \[20, 4\].*groups of 32"),
        ({"weight_scale": torch.rand(16, 2)}, r"weight_scale' is \[16, 2\]"),
        (
            {"weight_zero_point": torch.zeros(2, 2, dtype=torch.int32)},
            r"weight_zero_point' is \[2, 2\]; .* makes \[3, 2\]",
        ),
        ({"weight_g_idx": torch.full((64,), 7)}, "weight_g_idx' goes from 7 to 7"),
        ({"weight_g_idx": torch.zeros(60, dtype=torch.int32)}, r"weight_g_idx' is \[60\]"),
    ],
)
def test_damage_is_named(change: dict[str, torch.Tensor | None], message: str) -> None:
    given = {name: tensor for name, tensor in (compressed(rounded()) | change).items() if tensor is not None}
    with pytest.raises(CheckpointError, match=message):
        unpack(PACKED, given)


def test_weights_of_another_type_are_an_error() -> None:
    tensors = naive(rounded(8, size=-1, symmetric=True))
    with pytest.raises(CheckpointError, match=r"weight' is torch\.float16; quantised weights are"):
        unpack(INT8, tensors | {"weight": tensors["weight"].half()})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"config_groups": groups_of(WEIGHTS, input_activations={"num_bits": 8})}, "in group_0, activations"),
        ({"config_groups": groups_of(WEIGHTS, output_activations={"num_bits": 8})}, "output_activations"),
        ({"config_groups": {"W4A16": ["Linear"]}}, "W4A16 does not say"),
        ({"config_groups": {}}, "no config_groups"),
        ({"kv_cache_scheme": {"num_bits": 8}}, "kv_cache_scheme"),
        ({"transform_config": {"config_groups": {"R1": {}}}}, "transform_config"),
        ({"sparsity_config": {"format": "sparse-24-bitmask"}}, "format is 'sparse-24-bitmask'"),
        ({"format": "nvfp4-pack-quantized"}, "format is 'nvfp4-pack-quantized'"),
        ({"format": "marlin-24"}, "marlin-24"),
        ({"format": "float-quantized"}, "type is 'int'"),
        ({"config_groups": groups_of(WEIGHTS | {"num_bits": 3})}, "num_bits is '3'"),
        ({"config_groups": groups_of(WEIGHTS | {"strategy": "block"})}, "strategy is 'block'"),
        ({"config_groups": groups_of(WEIGHTS | {"dynamic": True})}, "dynamic is 'True'"),
    ],
)
def test_settings_that_are_not_understood_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message) as raised:
        packed_format("given", PACKED | settings)
    assert "not quantised" in raised.value.action
