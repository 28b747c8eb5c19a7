"""AddAttentionMaskPass: boolean attention masks become numbers that are added to the scores."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir

from ptgc.graphs.piece import MODULE_KEY, Piece

_MASK = 3  # input of Attention


class AddAttentionMaskPass(ir.passes.InPlacePass):
    """Masks become 0 where a row may attend, and the most negative finite number where it may not.

    TensorRT-RTX 1.7.1 fails to compile a boolean mask over an updated cache if the number of rows varies and its upper
    bound is 32 or less (`Error while verifying IR ... iota`). Additive masks compile at every size, to a smaller
    engine.

    Requires: masks that are numbers have their types set.
    Ensures: no Attention reads a boolean mask.

    Args:
        dtype: The type of the queries.
    """

    def __init__(self, dtype: ir.DataType) -> None:
        super().__init__()
        self._dtype = dtype

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Runs on the main graph."""
        made: dict[ir.Value, ir.Value] = {}
        modified = False
        for node in list(model.graph):
            mask = node.inputs[_MASK] if node.op_type == "Attention" and len(node.inputs) > _MASK else None
            if mask is None or mask.dtype not in (ir.DataType.BOOL, None):  # None: appended values have no type
                continue
            if mask not in made:
                made[mask] = self._added(mask, node)
            node.replace_input_with(_MASK, made[mask])
            modified = True
        return ir.passes.PassResult(model, modified)

    def _added(self, mask: ir.Value, before: ir.Node) -> ir.Value:
        producer = mask.producer()
        path = producer.metadata_props.get(MODULE_KEY, "") if producer is not None else ""
        piece = Piece(path or "ptgc.attention_mask")
        numbers = self._dtype.numpy()
        least = np.array(ml_dtypes.finfo(numbers).min, numbers)  # type: ignore[no-untyped-call]  # it has no types
        added = piece.op("Where", mask, piece.constant(np.zeros_like(least)), piece.constant(least))
        added.name = f"{mask.name}.added"
        added.shape, added.dtype = mask.shape, self._dtype
        piece.insert_before(before)
        return added
