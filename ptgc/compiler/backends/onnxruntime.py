"""ONNX Runtime on the CPU, with operators that ptgc brings along."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx_ir as ir
import onnx_ir.passes.common as common

from ptgc.compiler.backends.base import Backend, Preparation, PreparedRole
from ptgc.compiler.backends.onnxruntime_cuda import OnnxRuntimeCudaBackend
from ptgc.compiler.backends.onnxruntime_package import onnxruntime_version
from ptgc.compiler.backends.onnxruntime_weights import FORMATS, quantize_weights, rounds_weights
from ptgc.compiler.build.float_roles import in_float32, with_cache_in
from ptgc.compiler.lowering.block_products import LowerBlockProductsPass
from ptgc.compiler.lowering.cached_attention import LowerCachedAttentionPass
from ptgc.compiler.lowering.experts import LowerExpertsPass
from ptgc.compiler.lowering.fuse_block_products import FuseBlockProductsPass
from ptgc.compiler.lowering.matmul_nbits import LowerQuantizedWeightsPass
from ptgc.compiler.lowering.pack_projections import PackProjectionsPass
from ptgc.compiler.lowering.pad_single_row import PadSingleRowPass, PadSingleRowProductsPass
from ptgc.compiler.lowering.remaining_ports import remaining_ports
from ptgc.compiler.lowering.row_argmax import LowerRowArgMaxPass
from ptgc.compiler.lowering.skip_normalization import SkipNormalizationPass
from ptgc.compiler.precision.quantization.awq import scale_channels
from ptgc.compiler.precision.quantization.round_experts import round_experts
from ptgc.compiler.precision.quantization.round_matrix import Rounded
from ptgc.graphs.passes.normalize_linear import NormalizeLinearPass
from ptgc.graphs.passes.set_float_type import SetFloatTypePass
from ptgc.spec.lowering import Lowering
from ptgc.spec.onnxruntime_version import MIN_ONNXRUNTIME
from ptgc.spec.ports import DType
from ptgc.spec.role import Role


class OnnxRuntimeBackend(Backend):
    """The default backend; `on` gives another class for a GPU."""

    name = "onnxruntime"
    devices: Sequence[str] = ("cpu", "cuda")
    precisions: Sequence[str] = ("int8", "int4", "float32")
    lowerings: Sequence[Lowering] = (Lowering.NATIVE, Lowering.VENDOR_PRODUCTS)
    candidates: Sequence[str] = ("int4", "int4,head=int8", "int8")
    min_onnxruntime = MIN_ONNXRUNTIME
    has_parts = True

    def on(self, device: str) -> Backend:
        """See Backend."""
        return OnnxRuntimeCudaBackend() if device == "cuda" else super().on(device)

    def version(self) -> str:
        """See Backend."""
        return onnxruntime_version()

    def pays_for_capacity(self, roles: Iterable[Role], batch_size: int) -> bool:  # noqa: ARG002  # set by Backend
        """Attention reads the slots in use only, except where a decoder reads an encoder's output."""
        return any(role.cross_states for role in roles)

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
        attention = role.attention
        if attention is not None:
            role = with_cache_in(role, DType.FLOAT16) if task.half_cache else role
            LowerCachedAttentionPass(role.states, task.shapes, attention)(model)
        # The width of a round depends on the drafts and, in a batch, on what the other rows read.
        widths_vary = plan.tree.num_nodes > 1 or task.batch > 1
        pad_single_row = rounds and widths_vary and bool(role.states)
        if pad_single_row:
            PadSingleRowPass()(model)
        SkipNormalizationPass()(model)
        LowerRowArgMaxPass()(model)
        if rounds:
            quantize_weights(model, role, task)
            if task.lowering is Lowering.NATIVE:
                LowerBlockProductsPass()(model)
                FuseBlockProductsPass()(model)
            else:
                LowerQuantizedWeightsPass()(model)
        if pad_single_row:
            PadSingleRowProductsPass()(model)
        common.RemoveUnusedNodesPass()(model)
        common.NameFixPass()(model)  # a module may have two attention nodes
        return PreparedRole(model, remaining_ports(model.graph, role))
