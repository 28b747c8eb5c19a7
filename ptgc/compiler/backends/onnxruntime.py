"""ONNX Runtime on the CPU: lowering to its own operators where they were measured to be faster."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx_ir as ir
import onnx_ir.passes.common as common

from ptgc.compiler.backends.base import Backend, Preparation, PreparedRole
from ptgc.compiler.backends.onnxruntime_cuda import OnnxRuntimeCudaBackend
from ptgc.compiler.backends.onnxruntime_package import onnxruntime_version
from ptgc.compiler.backends.onnxruntime_weights import FORMATS, quantize_weights, rounds_weights
from ptgc.compiler.build.float_roles import in_float32
from ptgc.compiler.lowering.experts import LowerExpertsPass
from ptgc.compiler.lowering.grouped_query_attention import LowerAttentionPass
from ptgc.compiler.lowering.matmul_nbits import LowerQuantizedWeightsPass
from ptgc.compiler.lowering.pack_projections import PackProjectionsPass
from ptgc.compiler.lowering.pad_single_row import PadSingleRowPass, PadSingleRowProductsPass
from ptgc.compiler.lowering.remaining_ports import remaining_ports
from ptgc.compiler.lowering.skip_normalization import SkipNormalizationPass
from ptgc.compiler.precision.quantization.awq import scale_channels
from ptgc.compiler.precision.quantization.round_experts import round_experts
from ptgc.compiler.precision.quantization.round_matrix import Rounded
from ptgc.graphs.passes.normalize_linear import NormalizeLinearPass
from ptgc.graphs.passes.set_float_type import SetFloatTypePass
from ptgc.spec.attention import AttentionKind
from ptgc.spec.onnxruntime_version import MIN_ONNXRUNTIME
from ptgc.spec.role import Role


class OnnxRuntimeBackend(Backend):
    """The default backend; `on` gives another class for a GPU."""

    name = "onnxruntime"
    devices: Sequence[str] = ("cpu", "cuda")
    precisions: Sequence[str] = ("int8", "int4", "float32")
    candidates: Sequence[str] = ("int4", "int4,head=int8", "int8")
    min_onnxruntime = MIN_ONNXRUNTIME
    has_parts = True

    def on(self, device: str) -> Backend:
        """See Backend."""
        return OnnxRuntimeCudaBackend() if device == "cuda" else super().on(device)

    def version(self) -> str:
        """See Backend."""
        return onnxruntime_version()

    def pays_for_capacity(self, roles: Iterable[Role], batch_size: int) -> bool:
        """The standard Attention does; GroupQueryAttention does not."""
        return not all(_ends_with_its_rounds(role, batch_size) for role in roles)

    def prepare(self, model: ir.Model, role: Role, task: Preparation) -> PreparedRole:
        """See Backend."""
        plan = task.plan
        weight_format = FORMATS.get(task.precision)
        rounds = rounds_weights(task)
        role = in_float32(role)
        SetFloatTypePass()(model)
        NormalizeLinearPass()(model)
        model.graph.opset_imports["com.microsoft"] = 1
        experts: dict[ir.Value, list[Rounded]] = {}
        if weight_format is not None:
            scale_channels(model, role, task.calibration, weight_format, task.rounding)
            experts = round_experts(model, role, task.calibration, weight_format, task.rounding)
        LowerExpertsPass(experts)(model)
        PackProjectionsPass()(model)
        # The width of a round depends on the drafts and, in a batch, on what the other rows read.
        widths_vary = plan.tree.num_nodes > 1 or task.batch > 1
        pad_single_row = rounds and widths_vary and bool(role.states)
        if role.attention is not None and not role.cross_states and _ends_with_its_rounds(role, task.batch):
            LowerAttentionPass(role.states, task.shapes, role.attention, pad_single_row=pad_single_row)(model)
        elif pad_single_row:
            PadSingleRowPass()(model)
        SkipNormalizationPass()(model)
        if rounds:
            quantize_weights(model, role, task)
            LowerQuantizedWeightsPass()(model)
        if pad_single_row:
            PadSingleRowProductsPass()(model)
        common.RemoveUnusedNodesPass()(model)
        common.NameFixPass()(model)  # a module may have two attention nodes
        return PreparedRole(model, remaining_ports(model.graph, role))


def _ends_with_its_rounds(role: Role, batch_size: int) -> bool:
    """Whether the round's rows are the last slots in use of one cache, as GroupQueryAttention requires.

    A block's mask may cover slots behind the block.
    """
    return batch_size == 1 and not (role.attention is AttentionKind.BLOCK and role.mask_extra > 0)
