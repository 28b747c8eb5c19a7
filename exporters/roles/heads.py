"""The heads role: scores of tokens further ahead, from the target's last hidden state."""

from __future__ import annotations

from ptgc.errors import ExportError
from ptgc.exporters.roles.base import RoleSource, TracedRole
from ptgc.exporters.roles.one_shot import finish, only_output
from ptgc.exporters.tracing.traced_module import trace_module
from ptgc.graphs.piece import Piece
from ptgc.graphs.selection import drafts_of_heads
from ptgc.spec import ports


def export_heads(source: RoleSource) -> TracedRole:
    """Trace a module that computes logits `[batch, heads, vocab]` from hidden states `[batch, 1, hidden_size]`.

    Raises:
        ExportError: The target has no hidden states as output, or the tree is deeper than the number of heads.
    """
    tapped = {port.name: port for port in source.traced["target"].outputs}[ports.HIDDEN_STATES]
    port = ports.tapped(tapped)
    model = trace_module(source.module, (port,))
    logits = only_output(model, source, "logits [batch, heads, vocab]")
    heads, depth = logits.shape[1] if logits.shape is not None else 0, max(source.plan.tree.depths)
    if not isinstance(heads, int) or heads < depth:
        raise ExportError(
            f"{type(source.module).__name__} has {heads} heads; the plan's tree is {depth} tokens deep.",
            "Give a tree of at most as many tokens in a row.",
        )
    piece = Piece("ptgc.drafts")
    outputs = (ports.draft_ids(source.plan.tree.num_nodes - 1),)
    finish(model, piece, (drafts_of_heads(piece, logits, source.plan.tree),), outputs)
    return TracedRole(model, (port,), outputs)
