"""Runs a piece of graph in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime

from ptgc.graphs.piece import Piece
from ptgc.spec.ports import IR_VERSION, OPSET


def run_piece(build: Callable[..., Sequence[ir.Value]], *arrays: np.ndarray) -> list[Any]:
    """The outputs of `build(piece, *values)` for these inputs."""
    inputs = [
        ir.val(f"in{i}", ir.DataType.from_numpy(a.dtype), ir.Shape([f"d{i}{j}" for j in range(a.ndim)]))
        for i, a in enumerate(arrays)
    ]
    piece = Piece("piece")
    outputs = build(piece, *inputs)
    graph = ir.Graph(inputs, list(outputs), nodes=piece.nodes, opset_imports={"": OPSET})
    for value in outputs:
        value.dtype = value.dtype or ir.DataType.UNDEFINED
    proto = ir.to_proto(ir.Model(graph, ir_version=IR_VERSION))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(None, {f"in{i}": a for i, a in enumerate(arrays)}))
