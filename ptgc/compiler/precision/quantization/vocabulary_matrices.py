"""Matrices over the vocabulary: the embedding, the head, or one that is both."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from ptgc.compiler.precision.quantization.weight_format import WeightFormat
from ptgc.errors import BuildError
from ptgc.graphs.linear import Linear, is_matrix, linears
from ptgc.spec import ports
from ptgc.spec.ports import DType
from ptgc.spec.role import Role

_LOGITS = ports.logits(0, DType.FLOAT32).name


def is_embedding(node: ir.Node) -> bool:
    """Whether the node looks up token embeddings; tables of positions and the like keep their precision."""
    if node.op_type != "Gather" or node.attributes.get_int("axis", 0) != 0 or not is_matrix(node.inputs[0]):
        return False
    ids = node.inputs[1]
    return ids is not None and ids.name == ports.INPUT_IDS.name


def head_layers(graph: ir.Graph, role: Role) -> list[Linear]:
    """The linear layers that compute logits."""
    sizes = {port.shape[-1] for port in role.outputs if port.name == _LOGITS}
    return [layer for layer in linears(graph) if layer.out_features in sizes]


def vocabulary_formats(
    graph: ir.Graph, role: Role, parts: Mapping[str, WeightFormat | None]
) -> dict[ir.Value, WeightFormat | None]:
    """The formats of matrices that have their own format.

    Args:
        graph: A role's graph, with normalised matrix products.
        role: Its ports.
        parts: Formats of `embedding` and `head`, where they differ from the role's; None leaves a matrix as it is.

    Raises:
        BuildError: One matrix is both and cannot have two formats, or the role has no such part.
    """
    matrices: dict[str, set[ir.Value | None]] = {
        "embedding": {node.inputs[0] for node in graph if is_embedding(node)},
        "head": {layer.weight for layer in head_layers(graph, role)},
    }
    found: dict[ir.Value, WeightFormat | None] = {}
    for part, weight_format in parts.items():
        if not matrices[part]:
            raise BuildError(f"A role of this bundle has no {part} of its own.", f"Leave {part}= out of --precision.")
        for matrix in matrices[part]:
            assert matrix is not None
            if found.setdefault(matrix, weight_format) != weight_format:
                raise BuildError(
                    "This model's embedding and head are one matrix, which cannot have two precisions.",
                    "Give --precision head= or embedding=, which then stands for both.",
                )
    return found
