"""The roles of the edit loop: modules that score a canvas, with the operation itself appended to each graph."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from ptgc.exporters.model_facts import context_of
from ptgc.exporters.roles.base import RoleSource, TracedRole
from ptgc.exporters.roles.one_shot import finish, only_output, source_ports
from ptgc.exporters.tracing.traced_module import standard_attention, trace_module
from ptgc.graphs.edit_ops import EditedCanvas, delete_tokens, fill_placeholders, insert_placeholders, insert_tokens
from ptgc.graphs.piece import Piece
from ptgc.spec import ports
from ptgc.spec.edit import EditPlan

Operation = Callable[[Piece, ir.Value, EditedCanvas, EditPlan], EditedCanvas]


def export_deleter(source: RoleSource) -> TracedRole:
    """Trace a module that scores keeping and deleting every token."""
    return _export(source, delete_tokens, "scores [batch, canvas_length, 2]")


def export_inserter(source: RoleSource) -> TracedRole:
    """Trace a module that scores how many tokens are missing after every token."""
    return _export(source, insert_placeholders, "scores [batch, canvas_length, most insertions + 1]")


def export_filler(source: RoleSource) -> TracedRole:
    """Trace a module that scores the token for every placeholder."""
    return _export(source, fill_placeholders, "logits [batch, canvas_length, vocab]")


def export_token_inserter(source: RoleSource) -> TracedRole:
    """Trace a module that scores which token is missing after every token."""
    return _export(source, insert_tokens, "logits [batch, canvas_length, vocab]")


def _export(source: RoleSource, operation: Operation, wanted: str) -> TracedRole:
    plan = source.plan.edit
    assert plan is not None, "a plan of the edit loop has its policies"
    inputs = (ports.CANVAS_IDS, ports.LENGTHS, *(source_ports(source) if "encoder" in source.traced else ()))
    longest = {ports.CANVAS_LENGTH: context_of(source.module), ports.SOURCE_LENGTH: context_of(source.module)}
    with standard_attention(source.module):
        model = trace_module(source.module, inputs, longest=longest)
    scores = only_output(model, source, wanted)
    piece = Piece(f"ptgc.{source.name}")
    made = operation(piece, scores, EditedCanvas(*list(model.graph.inputs)[:2]), plan)
    outputs = (ports.OUTPUT_IDS, ports.OUTPUT_LENGTHS)
    finish(model, piece, (made.ids, made.lengths), outputs)
    return TracedRole(model, inputs, outputs)
