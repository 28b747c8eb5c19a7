"""Names of quantisers, and their meaning."""

from __future__ import annotations

import pytest

from ptgc.compiler.precision.quantization.quantizer import Quantizer


@pytest.mark.parametrize(
    ("quantizer", "precision", "has_text", "found"),
    [
        ("auto", "int4", False, "rtn"),
        ("auto", "int8", False, "rtn"),
        ("auto", "int4", True, "awq-gptq"),
        ("auto", "int8", True, "awq-gptq"),
        ("auto", "fp8", True, "gptq"),
        ("auto", "w8a8", True, "gptq"),
        ("hqq", "int4", True, "hqq"),
        ("hqq", "int4", False, "hqq"),
        ("awq", "int4", True, "awq"),
        ("awq", "int4", False, "rtn"),
        ("gptq", "int8", False, "rtn"),
    ],
)
def test_a_role_without_a_text_has_no_quantiser_that_needs_one(
    quantizer: str, precision: str, has_text: bool, found: str
) -> None:
    assert Quantizer(quantizer).resolve(precision, has_text=has_text) is Quantizer(found)


def test_what_reads_a_text_scales_channels_or_makes_up() -> None:
    assert [one.value for one in Quantizer if one.reads_text] == ["awq", "awq-gptq", "gptq"]
