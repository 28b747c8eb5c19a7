"""Finds the first module in which two forms of one graph differ, by the module paths that the nodes carry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from ptgc.compiler.checking.role_inputs import Array, load_graph, made_up_inputs
from ptgc.graphs.piece import MODULE_KEY

_FACTOR = 10.0  # a module is named if it differs this many times as much as all before it
_FLOOR = 1e-3  # relative difference that rounding in float32 does not reach


def first_difference(before: Path, after: Path, vocab_size: int) -> str:
    """A sentence that names the first module in which two forms of a graph differ; empty if none stands out.

    Both run on the same made-up inputs; the last tensor of every module that has the same shape in both is compared.
    A module is named where its relative difference is ten times that of every module before it.
    """
    one, other = _module_outputs(before, vocab_size), _module_outputs(after, vocab_size)
    largest = _FLOOR
    for module, values in one.items():
        if module not in other or other[module].shape != values.shape:
            continue
        if not np.isfinite(other[module]).all():
            return f"module {module} gives NaN or infinity"
        scale = float(np.abs(values).max()) or 1.0
        difference = float(np.abs(other[module] - values).max()) / scale
        if difference > largest * _FACTOR:
            return f"module {module} is the first that differs, by {difference:.2g} of its largest value"
        largest = max(largest, difference)
    return ""


def _module_outputs(path: Path, vocab_size: int) -> dict[str, Array]:
    """The last float tensor of every module of a graph, in the order in which they are computed."""
    model = onnx.load(str(path), load_external_data=False)
    names: dict[str, str] = {}
    for node in model.graph.node:
        module = next((entry.value for entry in node.metadata_props if entry.key == MODULE_KEY), "")
        if module and node.output and node.output[0]:
            names.pop(module, None)
            names[module] = node.output[0]
    known = {value.name for value in model.graph.output}
    added = [name for name in names.values() if name not in known]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in added)
    session = load_graph(model.SerializeToString(), path.parent)
    wanted = list(names.values())
    values = session.run(wanted, made_up_inputs(session, vocab_size))
    found = dict(zip(names, values, strict=True))
    return {module: value.astype(np.float32) for module, value in found.items() if value.dtype.kind == "f"}
