"""Embedding and head with their own precision."""

from __future__ import annotations

import shutil
from pathlib import Path

import onnx_ir as ir
import pytest

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.compiler.checking.check import check_bundle
from ptgc.errors import BuildError
from tests.bundles import tiny_bundle

TIED, APART = "llama", "qwen2"


@pytest.fixture
def bundles(place: Path, tmp_path: Path) -> dict[str, Path]:
    return {family: Path(shutil.copytree(tiny_bundle(place, family), tmp_path / family)) for family in (TIED, APART)}


def bits(bundle: Path, precision: str) -> dict[str, list[int]]:
    """Bits of the embedding, of all matrices but the last, and of the last, which is the head; 32 for floats."""
    made = build(bundle, BuildOptions(precision=precision, max_length=64, stage=Stage.PREPARE))
    graph = ir.load(made.path / "target.onnx").graph
    tables = [node for node in graph if node.op_type in ("Gather", "BlockGather")]
    looked_up = [node for node in tables if "input_ids" in {value.name for value in node.inputs if value is not None}]
    constant = [node for node in graph if node.op_type == "MatMul" and node.inputs[1] is not None]
    products = [node for node in graph if node.op_type == "BlockProduct" or node in constant]
    found = [node.attributes.get_int("bits", 32) for node in products]
    return {
        "embedding": [node.attributes.get_int("bits", 32) for node in looked_up],
        "layers": sorted(set(found[:-1])),
        "head": found[-1:],
    }


@pytest.mark.parametrize(
    ("family", "precision", "found"),
    [
        (APART, "int4,head=int8", (4, 4, 8)),
        (APART, "int4,embedding=int8", (8, 4, 4)),
        (APART, "int4,head=float32,embedding=int8", (8, 4, 32)),
        (APART, "float32,head=int4", (32, 32, 4)),
        (TIED, "int4,head=int8", (8, 4, 8)),
        (TIED, "int4,embedding=int8", (8, 4, 8)),
    ],
)
def test_parts_have_their_own_precision(
    family: str, precision: str, found: tuple[int, int, int], bundles: dict[str, Path]
) -> None:
    embedding, layers, head = found
    assert bits(bundles[family], precision) == {"embedding": [embedding], "layers": [layers], "head": [head]}


def test_a_build_of_several_precisions_is_named_checked_and_consistent(bundles: dict[str, Path]) -> None:
    made = build(bundles[APART], BuildOptions(precision="int8,head=float32", max_length=64))
    assert made.manifest.id == "onnxruntime-cpu-int8-head-float32-l64"
    assert made.manifest.precision == {"target": "int8", "target.head": "float32"}
    assert all(report.passed for report in check_bundle(bundles[APART]))


def test_one_matrix_has_one_precision(bundles: dict[str, Path]) -> None:
    with pytest.raises(BuildError, match="embedding and head are one matrix") as caught:
        bits(bundles[TIED], "int4,head=int8,embedding=float32")
    assert "stands for both" in caught.value.action


def test_engines_have_one_precision_for_all(bundles: dict[str, Path]) -> None:
    with pytest.raises(BuildError, match="one precision for all matrices"):
        build(bundles[APART], BuildOptions(backend="tensorrt-rtx", precision="int4,head=int8", stage=Stage.PREPARE))
