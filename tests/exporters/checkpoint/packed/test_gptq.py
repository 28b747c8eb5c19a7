"""Tests of GPTQ's tensors and settings."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ptgc.errors import CheckpointError
from ptgc.exporters.checkpoint.packed import PackedModule, packed_format
from ptgc.exporters.checkpoint.packed.base import Scheme
from tests.exporters.checkpoint.packed_writing import LAYOUTS, Rounded, as_int32, gptq, round_matrix

SETTINGS = dict(LAYOUTS["gptq-4-asymmetric"].settings)


def rounded(bits: int = 4) -> Rounded:
    matrix = torch.randn(24, 64, generator=torch.Generator().manual_seed(1))
    return round_matrix(matrix, bits, symmetric=False)


def unpack(tensors: dict[str, torch.Tensor], **settings: Any) -> torch.Tensor:
    return packed_format("given", SETTINGS | settings).unpack(PackedModule("model.layer", tensors))


def test_a_zero_point_of_zero_borrows_from_its_neighbour_and_gives_it_back() -> None:
    original = rounded()
    original.zeros[:, 0] = torch.arange(24) % 3  # so there are zeros, ones and twos
    assert torch.equal(unpack(gptq(original)), original.matrix)


def test_more_than_one_step_of_inputs_is_restored() -> None:
    matrix = torch.randn(16, 1104, generator=torch.Generator().manual_seed(2))
    wide = round_matrix(matrix, 4, 48, symmetric=False, ordered=True)
    assert torch.equal(unpack(gptq(wide)), wide.matrix)


def test_modules_may_have_bits_of_their_own() -> None:
    dynamic = {"+:.*down": {"bits": 8, "group_size": 64}, "-:.*head": {}}
    found = packed_format("given", SETTINGS | {"dynamic": dynamic})
    assert found.schemes == (Scheme(4, 32, symmetric=False), Scheme(8, 64, symmetric=False))
    for bits in (4, 8):
        original = rounded(bits)
        assert torch.equal(found.unpack(PackedModule("model.layer", gptq(original))), original.matrix)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scales": None}, r"layer\.scales' is missing, but there is g_idx, qweight, qzeros"),
        ({"qweight": None}, r"layer\.qweight' is missing"),
        ({"qzeros": None}, r"layer\.qzeros' is missing"),
        ({"qweight": torch.zeros(9, 24, dtype=torch.int32)}, r"qweight' has 9 words for 64 inputs.*weights of 4 bits"),
        ({"qweight": torch.zeros(8, 16, dtype=torch.int32)}, r"qweight' is \[8, 16\]; .* makes \[8, 24\]"),
        ({"qweight": torch.zeros(8, 24)}, r"qweight' is float32; packed integers are int32"),
        ({"qweight": torch.zeros(8, dtype=torch.int32)}, r"qweight' is \[8\]; it must have 2 dimensions"),
        ({"qzeros": torch.zeros(2, 4, dtype=torch.int32)}, r"qzeros' is \[2, 4\]; .* makes \[2, 3\]"),
        ({"scales": torch.zeros(2, 20)}, r"scales' has 20 columns.*a multiple of 8"),
        ({"scales": torch.zeros(2, 24, dtype=torch.int32)}, r"scales' is int32"),
        ({"g_idx": torch.full((64,), 2)}, r"g_idx' goes from 2 to 2, out of the 2 groups"),
        ({"g_idx": torch.full((64,), -1)}, r"g_idx' goes from -1"),
        ({"g_idx": None, "scales": torch.zeros(3, 24)}, r"scales' has 3 rows for 64 inputs in groups of 32"),
    ],
)
def test_damage_is_named(change: dict[str, torch.Tensor | None], message: str) -> None:
    tensors = {name: tensor for name, tensor in (gptq(rounded()) | change).items() if tensor is not None}
    with pytest.raises(CheckpointError, match=message) as raised:
        unpack(tensors)
    assert "Download" in raised.value.action


def test_inputs_in_an_order_need_their_groups() -> None:
    tensors = gptq(rounded())
    del tensors["g_idx"]
    with pytest.raises(CheckpointError, match=r"g_idx' is missing"):
        unpack(tensors, desc_act=True)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"bits": 3}, "bits is '3', which cannot be read"),
        ({"bits": True}, "bits is 'True'"),
        ({"group_size": 0}, "group_size is '0', which is neither positive nor -1"),
        ({"sym": "yes"}, "sym is 'yes'"),
        ({"checkpoint_format": "marlin"}, "checkpoint_format is 'marlin'"),
        ({"checkpoint_format": None, "format": "bitblas"}, "format is 'bitblas'"),
        ({"pack_dtype": "int16"}, "pack_dtype is 'int16'"),
        ({"adapter": {"rank": 8}}, "an adapter"),
        ({"dynamic": {"+:.*": {"bits": 2}}}, "bits is '2'"),
        ({"bits": 2, "pack_dtype": "int64"}, "pack_dtype is 'int64'.*bits is '2'"),
    ],
)
def test_settings_that_are_not_understood_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        packed_format("given", SETTINGS | settings)


def test_words_wrap_as_words_do() -> None:
    assert as_int32(torch.tensor([-1, 1 << 31, 5])).tolist() == [-1, -(1 << 31), 5]
