"""Tabulates what a graph computes from the position alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from ptgc.compiler.session_options import session_options
from ptgc.spec import ports


def table_over_positions(graph: ir.Graph, values: Sequence[ir.Value], positions: int) -> list[np.ndarray] | None:
    """The rows of `values` at positions 0 to `positions` - 1.

    Args:
        graph: Where the values are computed.
        values: `[batch, num_tokens, n]`.
        positions: How many rows to tabulate.

    Returns:
        One array `[positions, n]` for each value; None if the values depend on more than `position_ids`.
    """
    import onnxruntime  # the graph itself is run, so any formula is supported

    source = next(value for value in graph.inputs if value.name == ports.POSITION_IDS.name)
    try:
        part = ir.convenience.extract(graph, [source], list(values))
    except ValueError:  # another input is needed
        return None
    content = ir.to_proto(ir.Model(part, ir_version=ports.IR_VERSION)).SerializeToString()
    session = onnxruntime.InferenceSession(content, session_options(content), providers=["CPUExecutionProvider"])
    found = session.run(None, {source.name: np.arange(positions, dtype=np.int64)[None]})
    return [np.asarray(array)[0] for array in found]
