"""The counts of `make gpu`: CUDA calls, rounds, bytes of weights."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir
import pytest

from tests.tools.gpu_scripts import api_calls, base, round_times


def event(name: str, category: str, duration: float = 1.0) -> dict[str, object]:
    return {"name": name, "cat": category, "dur": duration, "ph": "X"}


def test_calls_and_work_of_the_device_are_told_apart() -> None:
    counts = api_calls.count_events(
        [
            event("cudaGraphLaunch", "cuda_runtime"),
            event("cuLaunchKernel", "cuda_driver"),
            event("gemv", "kernel", 40.0),
            event("HtoD", "gpu_memcpy", 2.0),
            event("aten::add", "cpu_op"),
        ]
    )
    assert counts == {"cudaGraphLaunch": 1, "cuLaunchKernel": 1, "kernels": 1, "memcpys": 1, "busy_microseconds": 42.0}


def test_what_reading_the_prompt_took_cancels_out() -> None:
    short = {"cudaGraphLaunch": 3 + 10, "cudaMalloc": 5, "cudaStreamSynchronize": 1 + 10}
    long = {"cudaGraphLaunch": 3 + 40, "cudaMalloc": 5, "cudaStreamSynchronize": 1 + 40}
    assert api_calls.per_round((10, short), (40, long)) == {"cudaGraphLaunch": 1, "cudaStreamSynchronize": 1}


def test_texts_of_as_many_rounds_say_nothing_of_one() -> None:
    assert api_calls.per_round((10, {"a": 1}), (10, {"a": 2})) == {}


def test_calls_are_summed_up_whatever_their_names() -> None:
    counts = {"cudaGraphLaunch": 1.0, "cudaLaunchKernelExC": 2.0, "cudaMemcpyAsync": 3.0, "cudaEventSynchronize": 1.0}
    assert api_calls.summarize(counts) == {"launches": 3.0, "copies": 3.0, "waits": 1.0}


def test_tables_of_which_a_round_takes_rows_are_not_read(tmp_path: Path) -> None:
    table, matrix, both = (
        ir.val(name, const_value=ir.tensor([[1.0] * 4] * 8, dtype=ir.DataType.FLOAT)) for name in ("t", "m", "b")
    )
    ids = ir.val("ids", ir.DataType.INT64, [2])
    nodes = [ir.node("Gather", [table, ids]), ir.node("Gather", [both, ids])]
    rows = nodes[0].outputs[0]
    nodes += [ir.node("MatMul", [rows, matrix]), ir.node("MatMul", [rows, both])]
    outputs = [node.outputs[0] for node in nodes[1:]]
    for number, value in enumerate([rows, *outputs]):
        value.name = f"v{number}"
    graph = ir.Graph(
        [ids], outputs, nodes=nodes, initializers=[table, matrix, both], opset_imports={"": 24}, name="round"
    )
    ir.save(ir.Model(graph, ir_version=10), tmp_path / "round.onnx")
    assert round_times.bytes_read(tmp_path / "round.onnx") == 2 * 8 * 4 * 4


def test_failures_are_kept_beside_what_was_measured(tmp_path: Path) -> None:
    figures = base.Figures(tmp_path / "figures.json")
    figures.put(one=1)
    with figures.attempt("second"):
        raise ValueError("no such kernel")
    figures.add("list", 2)
    assert figures.values == {"one": 1, "list": [2]}
    assert "no such kernel" in figures.failures["second"]


def test_skipping_is_no_failure(tmp_path: Path) -> None:
    figures = base.Figures(tmp_path / "figures.json")
    with pytest.raises(base.Skipped), figures.attempt("part"):
        raise base.Skipped("nothing to do")
    assert not figures.failures
