"""Piece: collects the nodes of one piece of graph, each marked with its module."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir
from onnx_ir.tape import Tape

MODULE_KEY = "ptgc.module"
"""Node metadata: the path of the PyTorch module, or the piece of graph, that a node came from."""

Attribute = int | float | str | Sequence[int] | Sequence[float] | Sequence[str] | ir.TensorProtocol | ir.Attr
Constant = int | float | Sequence[int] | np.ndarray


class Piece:
    """A sequence of nodes to be put into a graph.

    Args:
        name: Prefix of value names, and the module recorded in the nodes.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._tape = Tape()
        self._constants = 0

    @property
    def nodes(self) -> list[ir.Node]:
        """The nodes, in the order in which they were added."""
        return list(self._tape.nodes)

    def op(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        domain: str = "",
        outputs: int = 1,
        **attributes: Attribute,
    ) -> ir.Value:
        """Add a node and return its first output."""
        return self.op_outputs(op_type, *inputs, domain=domain, outputs=outputs, **attributes)[0]

    def op_outputs(
        self,
        op_type: str,
        *inputs: ir.Value | None,
        domain: str = "",
        outputs: int = 1,
        **attributes: Attribute,
    ) -> Sequence[ir.Value]:
        """Add a node and return all its outputs."""
        made = self._tape.op_multi_out(
            op_type,
            list(inputs),
            attributes or None,
            num_outputs=outputs,
            domain=domain,
            metadata_props={MODULE_KEY: self.name},
        )
        number = len(self._tape.nodes)
        for index, value in enumerate(made):
            value.name = f"{self.name}.{op_type}_{number}" + (f".{index}" if index else "")
        return made

    def constant(self, value: Constant, dtype: ir.DataType = ir.DataType.INT64) -> ir.Value:
        """Add a Constant node; Python numbers and lists become `dtype`, arrays keep their own."""
        array = value if isinstance(value, np.ndarray) else np.array(value, dtype=dtype.numpy())
        return self.op("Constant", value=ir.tensor(array))

    def insert_at_start(self, graph: ir.Graph) -> None:
        """Put the nodes at the start of `graph`."""
        first = next(iter(graph), None)
        if first is None:
            graph.extend(self.nodes)
        else:
            graph.insert_before(first, self.nodes)

    def insert_before(self, node: ir.Node) -> None:
        """Put the nodes before `node`."""
        assert node.graph is not None
        node.graph.insert_before(node, self.nodes)

    def append_to(self, graph: ir.Graph) -> None:
        """Put the nodes at the end of `graph`."""
        graph.extend(self.nodes)
