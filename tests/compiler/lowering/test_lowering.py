"""Lowered graphs compute what the canonical graph computes."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from ptgc.compiler.lowering.pack_projections import PackProjectionsPass
from ptgc.compiler.lowering.pad_single_row import PadSingleRowPass, PadSingleRowProductsPass
from ptgc.compiler.lowering.row_argmax import LowerRowArgMaxPass
from ptgc.compiler.lowering.skip_normalization import SkipNormalizationPass
from ptgc.graphs.linear import linears
from ptgc.graphs.passes.normalize_linear import NormalizeLinearPass
from ptgc.spec.lowering import Lowering
from ptgc.spec.plan import DecodePlan
from ptgc.spec.strategies.autoregressive import autoregressive
from ptgc.spec.strategies.ngram import ngram
from tests.compiler.prepared import canonical, prepared, prepared_model, traced
from tests.models import FAMILIES, prompt


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("batch", [1, 3])
def test_rounds_of_any_width_agree_also_after_rejected_rows(family: str, batch: int, tmp_path: Path) -> None:
    one, other = canonical(family, tmp_path), prepared(family, tmp_path, batch=batch)
    for ids, kept in (
        (prompt(30), 30),
        (prompt(7, 1), 3),
        (prompt(1, 2), 1),
        (prompt(16, 3), 9),
        (prompt(4, 4), 4),
    ):
        expected, found = one.forward(ids), other.forward(ids)
        np.testing.assert_allclose(found, expected, atol=2e-3, rtol=1e-4)
        one.commit(kept)
        other.commit(kept)


def test_text_in_order_needs_no_mask(tmp_path: Path) -> None:
    model, role = prepared_model("llama", tmp_path)
    counts = Counter(node.op_type for node in model.graph)
    assert counts["CachedAttention"] == 3 and not counts["Attention"] and not counts["TensorScatter"]
    assert counts["RowArgMax"] == 1 and not counts["ArgMax"]
    assert not counts["RotaryEmbedding"] and not counts["Cos"]
    ports = {"input_ids", "position_ids", "mask_start", "write_index", "row_count", "logits_rows"}
    assert {port.name for port in role.inputs} == ports
    assert {port.name for port in role.outputs} == {"logits", "next_ids"}


@pytest.mark.parametrize("batch", [1, 3])
def test_a_single_row_is_padded_only_before_float_products(batch: int, tmp_path: Path) -> None:
    def pads(family: str, precision: str, plan: DecodePlan) -> int:
        model, _ = prepared_model(family, tmp_path, precision, batch, plan)
        return Counter(node.op_type for node in model.graph)["Pad"]

    assert pads("llama", "int8", ngram()) == 0
    assert pads("mixtral", "float32", ngram()) == 0
    assert pads("mixtral", "int8", ngram()) > 0  # the router
    assert (pads("mixtral", "int8", autoregressive()) > 0) == (batch > 1)  # a neighbour may be reading its prompt


@pytest.mark.parametrize("family", FAMILIES)
def test_residual_sums_and_norms_are_one_operator(family: str, tmp_path: Path) -> None:
    model, _ = prepared_model(family, tmp_path)
    counts = Counter(node.op_type for node in model.graph)
    assert counts["SkipSimplifiedLayerNormalization"] + counts["SkipLayerNormalization"] >= 6


@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("family", FAMILIES)
def test_quantised_graphs_stay_near_the_original(family: str, precision: str, tmp_path: Path) -> None:
    one, other = canonical(family, tmp_path), prepared(family, tmp_path, precision)
    expected, found = one.forward(prompt(24)), other.forward(prompt(24))
    correlation = np.corrcoef(expected.ravel(), found.ravel())[0, 1]
    assert correlation > (0.99 if precision == "int8" else 0.8)


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_every_linear_layer_embedding_and_head_is_quantised(precision: str, tmp_path: Path) -> None:
    model, _ = prepared_model("llama", tmp_path, precision)
    counts = Counter(node.op_type for node in model.graph)
    assert counts["BlockGather"] == 1 and counts["BlockProduct"] == 3 * 4 + 1
    assert not counts["Split"] and not counts["Sigmoid"]  # they are in the products
    assert (
        counts["RMSNormalization"] + counts["SkipSimplifiedLayerNormalization"] == 1
    )  # rows are chosen after the last
    assert not linears(model.graph)
    assert not any(name.endswith(".scales") for name in model.graph.initializers)  # those of tiles took their place


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_products_may_be_those_of_the_engine_library(precision: str, tmp_path: Path) -> None:
    model, _ = prepared_model("llama", tmp_path, precision, lowering=Lowering.VENDOR_PRODUCTS)
    counts = Counter(node.op_type for node in model.graph)
    assert counts["GatherBlockQuantized"] == 1 and counts["MatMulNBits"] == 3 * 4 + 1 and not counts["BlockProduct"]
    levels = {n.attributes["accuracy_level"].as_int() for n in model.graph if n.op_type == "MatMulNBits"}
    assert levels == {4}
    own = prepared("llama", tmp_path, precision).forward(prompt(24))
    vendor = prepared("llama", tmp_path, precision, lowering=Lowering.VENDOR_PRODUCTS).forward(prompt(24))
    assert np.corrcoef(own.ravel(), vendor.ravel())[0, 1] > 0.999  # both round rows in blocks


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_a_build_for_a_batch_has_the_logits_of_one_for_a_sequence(precision: str, tmp_path: Path) -> None:
    one, several = (prepared("gemma3", tmp_path, precision, batch).forward(prompt(24)) for batch in (1, 3))
    np.testing.assert_array_equal(one, several)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("precision", ["int8", "int4"])
@pytest.mark.parametrize("family", [*FAMILIES, "mixtral", "gemma3"])
def test_a_token_has_the_same_logits_in_a_round_of_any_width(
    family: str, precision: str, batch: int, tmp_path: Path
) -> None:
    """Bit-identical: rounded activations would amplify the smallest difference."""
    ids = prompt(48)
    session = prepared(family, tmp_path, precision, batch)

    def logits(*widths: int) -> np.ndarray:
        session.length = 0
        found = []
        for width in widths * (len(ids) // sum(widths)):
            found.append(session.forward(ids[session.length : session.length + width]))
            session.commit(width)
        return np.concatenate(found)

    one_by_one = logits(1)
    for widths in ((2,), (3,), (4,), (8,), (16,), (48,), (1, 5)):
        np.testing.assert_array_equal(logits(*widths), one_by_one, err_msg=str(widths))


@pytest.mark.parametrize(
    "lowering",
    [
        *(NormalizeLinearPass, PackProjectionsPass, PadSingleRowPass, PadSingleRowProductsPass, SkipNormalizationPass),
        LowerRowArgMaxPass,
    ],
)
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_pass_run_twice_changes_nothing(lowering: type[ir.passes.InPlacePass], family: str) -> None:
    model = traced(family).model.clone()
    NormalizeLinearPass()(model)
    lowering()(model)
    assert not lowering()(model).modified
