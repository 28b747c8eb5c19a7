"""ONNX Runtime on an NVIDIA GPU: standard operators, arranged so that runs can be captured as CUDA graphs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import onnx_ir as ir
import onnx_ir.passes.common as common

from ptgc.compiler.backends.base import Backend, Preparation, PreparedRole
from ptgc.compiler.backends.onnxruntime_package import onnxruntime_version
from ptgc.compiler.backends.onnxruntime_weights import FORMATS, quantize_weights, rounds_weights
from ptgc.compiler.build.float_roles import in_float32, in_type
from ptgc.compiler.lowering.matmul_nbits import LowerQuantizedWeightsPass
from ptgc.compiler.lowering.move_sizes_to_device import MoveSizesToDevicePass
from ptgc.compiler.lowering.pack_projections import PackProjectionsPass
from ptgc.compiler.lowering.remaining_ports import remaining_ports
from ptgc.compiler.lowering.set_half_type import SetHalfTypePass
from ptgc.compiler.lowering.skip_normalization import SkipNormalizationPass
from ptgc.compiler.lowering.widen_choices import WidenChoicesPass
from ptgc.compiler.precision.quantization.awq import scale_channels
from ptgc.graphs.passes.normalize_linear import NormalizeLinearPass
from ptgc.graphs.passes.set_float_type import SetFloatTypePass
from ptgc.graphs.values import onnx_type
from ptgc.spec.onnxruntime_version import MIN_ONNXRUNTIME
from ptgc.spec.ports import DType
from ptgc.spec.role import Role

# This optimizer turns a Gather over a Range into a Slice, but leaves on the device what Slice reads from the host
# (onnxruntime 1.31.1).
_ENGINE_OPTIONS = {"optimization.disable_specified_optimizers": "GatherToSliceFusion"}


class OnnxRuntimeCudaBackend(Backend):
    """The CUDA provider, which has kernels for the canonical graph's operators.

    GroupQueryAttention is left out: it reads the length of the cache from host memory, which a captured graph cannot
    do.
    """

    name = "onnxruntime"
    devices: Sequence[str] = ("cuda",)
    precisions: Sequence[str] = ("float16", "bfloat16", "float32", "int8", "int4")
    min_onnxruntime = MIN_ONNXRUNTIME
    has_parts = True

    def version(self) -> str:
        """See Backend."""
        return onnxruntime_version("onnxruntime-gpu")

    def pays_for_capacity(self, roles: Iterable[Role], batch_size: int) -> bool:  # noqa: ARG002  # set by Backend
        """The standard Attention reads every slot of the cache."""
        return True

    def prepare(self, model: ir.Model, role: Role, task: Preparation) -> PreparedRole:
        """See Backend."""
        dtype = DType.FLOAT16 if task.precision in FORMATS else DType(task.precision)
        SetFloatTypePass()(model)
        NormalizeLinearPass()(model)
        common.ShapeInferencePass()(model)
        model.graph.opset_imports["com.microsoft"] = 1
        self._quantize(model, in_float32(role), task)
        if dtype is not DType.FLOAT32:
            SetHalfTypePass(onnx_type(dtype))(model)
            WidenChoicesPass()(model)
        if rounds_weights(task):
            LowerQuantizedWeightsPass()(model)
        SkipNormalizationPass()(model)
        MoveSizesToDevicePass()(model)
        common.RemoveUnusedNodesPass()(model)
        common.NameFixPass()(model)
        return PreparedRole(model, remaining_ports(model.graph, in_type(role, dtype)), dict(_ENGINE_OPTIONS))

    @staticmethod
    def _quantize(model: ir.Model, role: Role, task: Preparation) -> None:
        """Merge projections and round matrices; stacks of experts stay as they are."""
        role = remaining_ports(model.graph, role)
        weight_format = FORMATS.get(task.precision)
        if weight_format is not None:
            scale_channels(model, role, task.calibration, weight_format, task.rounding)
        PackProjectionsPass()(model)
        if rounds_weights(task):
            quantize_weights(model, role, task)
