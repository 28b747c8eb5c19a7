"""The heads role: the drafts of a tree, from the target's hidden state at the end of a text."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch
from torch import nn
from transformers import PreTrainedModel

from ptgc.errors import ExportError
from ptgc.exporters.modules.medusa import MedusaHeads
from ptgc.exporters.modules.sequential_heads import SequentialHeads, TreeOfHeads
from ptgc.exporters.roles.base import RoleSource, TracedRole
from ptgc.exporters.roles.one_shot import finish, only_output
from ptgc.exporters.tracing.traced_module import trace_module
from ptgc.graphs.piece import Piece
from ptgc.graphs.selection import drafts_of_heads
from ptgc.graphs.values import take_place
from ptgc.spec import ports
from ptgc.spec.ports import Port


def export_heads(source: RoleSource) -> TracedRole:
    """Trace heads that read drafts, or a module that computes logits `[batch, heads, vocab]` of a state.

    The latter has the argument `hidden_states`, `[batch, 1, hidden_size]`.

    Raises:
        ExportError: The tree is deeper than the number of heads, or the module gives something else.
    """
    states = ports.tapped({port.name: port for port in source.traced["target"].outputs}[ports.HIDDEN_STATES])
    if isinstance(source.module, SequentialHeads):
        return _sequential(source, source.module, states)
    return _independent(source, states)


def _independent(source: RoleSource, states: Port) -> TracedRole:
    tree, module = source.plan.tree, source.module
    depth = max(tree.depths)
    if isinstance(module, MedusaHeads):
        _check_depth(module, len(module.blocks), depth)
        model = trace_module(module, (states,), lambda heads, rows: heads(rows, depth))
    else:
        model = trace_module(module, (states,))
    logits = only_output(model, source, "logits [batch, heads, vocab]")
    heads = logits.shape[1] if logits.shape is not None else 0
    _check_depth(module, heads if isinstance(heads, int) else 0, depth)
    piece = Piece("ptgc.drafts")
    drafts = drafts_of_heads(piece, logits, tree, getattr(module, "drafted_ids", None))
    return _finished(model, piece, drafts, (states,), source)


def _sequential(source: RoleSource, heads: SequentialHeads, states: Port) -> TracedRole:
    tree = source.plan.tree
    _check_depth(heads, heads.num_heads, max(tree.depths))
    inputs = (states, ports.LAST_IDS)
    model = trace_module(TreeOfHeads(heads, tree), inputs)
    return _finished(model, Piece("ptgc.drafts"), model.graph.outputs[0], inputs, source)


def _finished(
    model: ir.Model, piece: Piece, drafts: ir.Value, inputs: tuple[Port, ...], source: RoleSource
) -> TracedRole:
    outputs = (ports.draft_ids(source.plan.tree.num_nodes - 1),)
    _share_embedding(model, source)
    finish(model, piece, (drafts,), outputs)
    return TracedRole(model, inputs, outputs)


def _share_embedding(model: ir.Model, source: RoleSource) -> None:
    """Give a matrix of logits that is the target's embedding the embedding's form, so that it is stored once.

    PyTorch's exporter transposes constants that are used once; the target uses its own twice.
    """
    target = source.modules["target"]
    assert isinstance(target, PreTrainedModel)
    module = target.get_input_embeddings()
    if not isinstance(module, nn.Embedding):
        return
    embedding = module.weight.detach()
    for name, value in list(model.graph.initializers.items()):
        tensor = value.const_value
        assert tensor is not None
        if tuple(tensor.shape.numpy()) != tuple(reversed(embedding.shape)):
            continue
        rows = np.ascontiguousarray(tensor.numpy().T)
        given = embedding if embedding.dtype is not torch.bfloat16 else embedding.view(torch.int16)
        if rows.tobytes() != given.numpy().tobytes():
            continue
        piece = Piece("ptgc.shared_embedding")
        kept = ir.val("shared_embedding", const_value=ir.tensor(rows, name="shared_embedding"))
        take_place(piece.op("Transpose", kept, perm=[1, 0]), value)
        model.graph.initializers.pop(name)
        model.graph.register_initializer(kept)
        piece.insert_at_start(model.graph)
        return


def _check_depth(module: nn.Module, heads: int, depth: int) -> None:
    if heads < depth:
        raise ExportError(
            f"{type(module).__name__} has {heads} heads; the plan's tree is {depth} tokens deep.",
            "Give a tree of at most as many tokens in a row.",
        )
