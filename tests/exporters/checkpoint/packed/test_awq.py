"""Tests of AWQ's tensors and settings."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from ptgc.errors import CheckpointError
from ptgc.exporters.checkpoint.packed import PackedModule, packed_format
from tests.exporters.checkpoint.packed_writing import LAYOUTS, awq, round_matrix

SETTINGS = dict(LAYOUTS["awq"].settings)


def tensors() -> dict[str, torch.Tensor]:
    matrix = torch.randn(24, 64, generator=torch.Generator().manual_seed(1))
    return awq(round_matrix(matrix, symmetric=False))


def test_settings_by_their_older_names_are_understood() -> None:
    matrix = torch.randn(16, 64, generator=torch.Generator().manual_seed(1))
    original = round_matrix(matrix, 4, 16, symmetric=False)
    older = {"quant_method": "awq", "w_bit": 4, "q_group_size": 16, "zero_point": True, "version": "GEMM"}
    found = packed_format("given", older).unpack(PackedModule("layer", awq(original)))
    assert torch.equal(found, original.matrix)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scales": None}, r"layer\.scales' is missing"),
        ({"qweight": None}, r"layer\.qweight' is missing"),
        ({"qzeros": None}, r"layer\.qzeros' is missing"),
        ({"qweight": torch.zeros(60, 3, dtype=torch.int32)}, "has 60 rows, which groups of 32 do not divide"),
        ({"scales": torch.zeros(2, 16)}, r"scales' is \[2, 16\]; .* makes \[2, 24\]"),
        ({"qzeros": torch.zeros(1, 3, dtype=torch.int32)}, r"qzeros' is \[1, 3\]; .* makes \[2, 3\]"),
        ({"qweight": torch.zeros(64, 3)}, "packed integers are int32"),
    ],
)
def test_damage_is_named(change: dict[str, torch.Tensor | None], message: str) -> None:
    given = {name: tensor for name, tensor in (tensors() | change).items() if tensor is not None}
    with pytest.raises(CheckpointError, match=message):
        packed_format("given", SETTINGS).unpack(PackedModule("layer", given))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"version": "gemv"}, "version is 'gemv'"),
        ({"version": "marlin"}, "version is 'marlin'"),
        ({"backend": "llm-awq"}, "llm-awq"),
        ({"bits": 8}, "bits is '8'"),
        ({"zero_point": 1}, "zero_point is '1'"),
        ({"group_size": "128"}, "group_size is '128'"),
    ],
)
def test_settings_that_are_not_understood_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        packed_format("given", SETTINGS | settings)
