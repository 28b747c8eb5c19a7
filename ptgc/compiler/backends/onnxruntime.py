"""ONNX Runtime on the CPU: lowering to its own operators where they are measured faster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version

import onnx_ir as ir
import onnx_ir.passes.common as common

from ptgc.compiler.backends.base import Backend, Preparation, PreparedRole
from ptgc.compiler.float_roles import in_float32
from ptgc.compiler.lowering.experts import LowerExpertsPass
from ptgc.compiler.lowering.grouped_query_attention import LowerAttentionPass
from ptgc.compiler.lowering.matmul_nbits import LowerQuantizedWeightsPass
from ptgc.compiler.lowering.pack_projections import PackProjectionsPass
from ptgc.compiler.lowering.pad_single_row import PadSingleRowPass, PadSingleRowProductsPass
from ptgc.compiler.lowering.skip_normalization import SkipNormalizationPass
from ptgc.compiler.quantization.awq import scale_channels
from ptgc.compiler.quantization.quantize_weights import QuantizeWeightsPass
from ptgc.compiler.quantization.round_experts import round_experts
from ptgc.compiler.quantization.round_matrix import Rounded
from ptgc.compiler.quantization.second_moments import second_moments
from ptgc.compiler.quantization.vocabulary_matrices import vocabulary_formats
from ptgc.compiler.quantization.weight_format import WeightFormat
from ptgc.errors import BackendError
from ptgc.graphs.passes.normalize_linear import NormalizeLinearPass
from ptgc.graphs.passes.set_float_type import SetFloatTypePass
from ptgc.spec.manifest import Role
from ptgc.spec.plan import DecodePlan

PACKAGES = ("onnxruntime", "onnxruntime-gpu")
# int8 loses next to nothing in blocks of 64, and reads a sixteenth less of scales than in blocks of 32. Larger blocks
# would make wide rounds cheaper, but the kernels for 128 (at 4 bits for 64) add up one row otherwise than several, so
# that drafts would change the text (onnxruntime 1.31.1).
_FORMATS = {"int8": WeightFormat(8, (64, 32, 16)), "int4": WeightFormat(4, (32, 16))}
_UNUSED_OUTPUTS = (
    "top_logits",
    "top_ids",
)  # greedy decoding reads next_ids; top-k over the vocabulary is not free


class OnnxRuntimeBackend(Backend):
    """The default backend."""

    name = "onnxruntime"
    devices: Sequence[str] = ("cpu",)
    precisions: Sequence[str] = ("int8", "int4", "float32")
    candidates: Sequence[str] = ("int4", "int4,head=int8", "int8")
    has_parts = True

    def version(self) -> str:
        """See Backend."""
        for package in PACKAGES:
            try:
                return version(package)
            except PackageNotFoundError:
                continue
        raise BackendError(
            "Backend 'onnxruntime' needs the package onnxruntime, which is not installed.",
            'Install it: pip install "ptgc[cpu]"',
        )

    def pays_for_capacity(self, plan: DecodePlan, batch_size: int) -> bool:
        """The standard Attention does; GroupQueryAttention takes chains of one sequence, and does not."""
        return not self._is_chain_of_one(plan, batch_size)

    def prepare(self, model: ir.Model, role: Role, task: Preparation) -> PreparedRole:
        """See Backend."""
        plan, shapes = task.plan, task.shapes
        weight_format = _FORMATS.get(task.precision)
        parts = {part: _FORMATS.get(precision) for part, precision in task.parts.items()}
        rounds = any(one is not None for one in (weight_format, *parts.values()))
        role = in_float32(role)
        SetFloatTypePass()(model)
        NormalizeLinearPass()(model)
        _drop_outputs(model.graph)
        model.graph.opset_imports["com.microsoft"] = 1
        experts: dict[ir.Value, list[Rounded]] = {}
        if weight_format is not None:
            scale_channels(model, role, task.calibration, weight_format, task.rounding)
            experts = round_experts(model, role, task.calibration, weight_format, task.rounding)
        LowerExpertsPass(experts)(model)
        PackProjectionsPass()(model)
        pad_single_row = rounds and plan.tree.num_nodes > 1 and bool(role.states)
        if role.states and not role.cross_states and self._is_chain_of_one(plan, shapes.batch):
            LowerAttentionPass(role.states, shapes, pad_single_row=pad_single_row)(model)
        elif pad_single_row:
            PadSingleRowPass()(model)
        SkipNormalizationPass()(model)
        if rounds:
            text = task.calibration if task.rounding.makes_up else ()
            moments = second_moments(model, _ports_of(model.graph, role), text)
            others = vocabulary_formats(model.graph, role, parts)
            QuantizeWeightsPass(weight_format, task.rounding, moments, others)(model)
            LowerQuantizedWeightsPass()(model)
        if pad_single_row:
            PadSingleRowProductsPass()(model)
        common.RemoveUnusedNodesPass()(model)
        common.NameFixPass()(model)  # a module may attend twice
        return PreparedRole(model, _ports_of(model.graph, role))

    @staticmethod
    def _is_chain_of_one(plan: DecodePlan, batch_size: int) -> bool:
        return batch_size == 1 and plan.tree.is_chain


def _drop_outputs(graph: ir.Graph) -> None:
    for value in list(graph.outputs):
        if value.name in _UNUSED_OUTPUTS:
            graph.outputs.remove(value)


def _ports_of(graph: ir.Graph, role: Role) -> Role:
    """The role with the ports that the lowered graph still has."""
    names = {value.name for value in (*graph.inputs, *graph.outputs)}
    return replace(
        role,
        inputs=tuple(port for port in role.inputs if port.name in names),
        outputs=tuple(port for port in role.outputs if port.name in names),
        commit_graph=None,
    )
