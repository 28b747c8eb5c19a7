"""TensorRT and TensorRT-RTX, one interface: standard graphs in the requested precision, compiled ahead of time."""

from __future__ import annotations

import importlib
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx_ir as ir
import onnx_ir.passes.common as common

from ptgc.compiler.backends.base import Backend, Preparation, PreparedRole, Progress
from ptgc.compiler.backends.compile_cost import estimate, require_memory
from ptgc.compiler.backends.engine_file import check_adopted
from ptgc.compiler.backends.tensorrt_config import check_native, check_options
from ptgc.compiler.backends.timing_cache import TimingCache
from ptgc.compiler.build.compiler_options import CompilerOptions
from ptgc.compiler.build.dimensions import Dimensions, engine_dimensions
from ptgc.compiler.build.float_roles import in_float32, in_type
from ptgc.compiler.graph_session import writes_alone
from ptgc.compiler.lowering.add_attention_mask import AddAttentionMaskPass
from ptgc.compiler.lowering.fix_dimensions import dimension_names
from ptgc.compiler.lowering.lower_opset import LowerOpsetPass
from ptgc.compiler.lowering.name_nodes import NameNodesPass
from ptgc.compiler.lowering.pack_projections import PackProjectionsPass
from ptgc.compiler.lowering.remaining_ports import remaining_ports
from ptgc.compiler.lowering.set_half_type import SetHalfTypePass
from ptgc.compiler.lowering.stack_query_groups import StackQueryGroupsPass
from ptgc.compiler.lowering.write_out_attention import WriteOutAttentionPass, portable_reason
from ptgc.compiler.lowering.write_out_rms_normalization import WriteOutRMSNormalizationPass
from ptgc.compiler.lowering.write_out_rotary_embedding import WriteOutRotaryEmbeddingPass
from ptgc.compiler.lowering.write_out_tensor_scatter import WriteOutTensorScatterPass
from ptgc.compiler.precision.quantization.quantize_role import Scheme, quantize_role
from ptgc.compiler.precision.quantization.weight_format import Numbers, WeightFormat
from ptgc.errors import BackendError, BuildError
from ptgc.extras import how_to_install
from ptgc.graphs.passes.normalize_linear import NormalizeLinearPass
from ptgc.graphs.passes.set_float_type import SetFloatTypePass
from ptgc.graphs.values import onnx_type
from ptgc.spec.bundle import Build
from ptgc.spec.engine import Engine
from ptgc.spec.kv_cache import LayerState
from ptgc.spec.lowering import Lowering
from ptgc.spec.ports import DType
from ptgc.spec.role import Role
from ptgc.spec.storage_errors import storage_errors

if TYPE_CHECKING:
    from ptgc.compiler.backends.tensorrt_network import Compiler

# int8 has one positive scale per channel. With blocks of 64, the engine of SmolLM2-135M was 1.57 times the size of its
# weights, because the compiler widened the embedding; with a scale per channel it was 1.13 times (docs/tensorrt.md).
_SCHEMES = {
    "int8": Scheme(WeightFormat(8, ())),
    "int4": Scheme(WeightFormat(4, (32,))),
    "fp8": Scheme(WeightFormat(8, (), Numbers.FLOAT), ir.DataType.FLOAT8E4M3FN),
    "w8a8": Scheme(WeightFormat(8, ()), ir.DataType.INT8, smoothing=True, needs_text=True),
}
_PORTABLE_OPSET = 20  # TensorRT 10.1 takes 9 to 20 (onnx-tensorrt 10.1-GA, docs/operators.md); JetPack 6 has 10.3


@dataclass(frozen=True)
class Library:
    """One of the two Python modules with this interface."""

    backend: str
    """The backend's name."""
    module: str
    """The module's import name."""
    install: str
    """How to install it."""
    has_timing_cache: bool
    """Whether it measures kernels while it compiles, and keeps the times."""
    native_since: tuple[int, int] = (0, 0)
    """The first version that takes graphs of the native lowering."""


TENSORRT = Library(
    "tensorrt",
    "tensorrt",
    "It is not on the Python package index. On a server with an NVIDIA GPU: install tensorrt from NVIDIA's own index, "
    "as TensorRT's installation guide says; on a Jetson it comes with JetPack. Without a GPU build with "
    "--backend tensorrt-rtx, or stop after --stage prepare.",
    has_timing_cache=True,
    native_since=(10, 15),
)
TENSORRT_RTX = Library(
    "tensorrt-rtx", "tensorrt_rtx", f"Install it: {how_to_install('build', 'tensorrt-rtx')}", has_timing_cache=False
)


class TensorRTBackend(Backend):
    """Weights in the graph's own types (the compiler chooses none), one engine for each role and cache capacity.

    Args:
        library: Which of the two.
    """

    devices: Sequence[str] = ("cuda",)
    precisions: Sequence[str] = ("float16", "bfloat16", "float32", "int8", "int4", "fp8", "w8a8")
    lowerings: Sequence[Lowering] = (Lowering.NATIVE, Lowering.PORTABLE)
    compiles_ahead = True

    def __init__(self, library: Library) -> None:
        self._library = library
        self.name = library.backend

    def version(self) -> str:
        """See Backend."""
        return str(self._load().__version__)

    def pays_for_capacity(self, roles: Iterable[Role], batch_size: int) -> bool:  # noqa: ARG002  # the seam's
        """False: it does, but each further capacity would be another engine with its own copy of the weights."""
        return False

    def check_compiler(self, options: CompilerOptions) -> None:
        """See Backend."""
        check_options(self._load(), options, self.name, has_timing_cache=self._library.has_timing_cache)

    def check_version(self, lowering: Lowering) -> None:
        """See Backend."""
        check_native(self.name, self.version(), self._library.native_since, lowering)

    def check(self, device: str, precision: str, lowering: Lowering) -> None:
        """See Backend."""
        super().check(device, precision, lowering)
        if precision == "int4" and lowering is Lowering.PORTABLE:
            raise BuildError(
                f"Precision 'int4' needs opset 21, whose DequantizeLinear has blocks; --lowering {lowering.value} "
                f"prepares for opset {_PORTABLE_OPSET}.",
                "Choose --precision int8, or leave --lowering out where TensorRT is 10.15 or newer.",
            )

    def prepare(self, model: ir.Model, role: Role, task: Preparation) -> PreparedRole:
        """See Backend. The graph is the same for every plan; sizes are fixed when it is compiled."""
        scheme = _SCHEMES.get(task.precision)
        dtype = DType.FLOAT16 if scheme is not None else DType(task.precision)
        if scheme is not None and scheme.needs_text and writes_alone(role) and not task.calibration:
            raise BuildError(
                f"Precision '{task.precision}' rounds activations with scales that a text gives, and there is no text.",
                "Add --calibration FILE, a text of the kind that the model is to write, or choose int8 or fp8.",
            )
        SetFloatTypePass()(model)
        NormalizeLinearPass()(model)
        common.ShapeInferencePass()(model)
        WriteOutAttentionPass()(model)
        if task.lowering is Lowering.NATIVE:
            StackQueryGroupsPass()(model)
        if scheme is not None and scheme.weights.numbers is Numbers.FLOAT and not task.calibration:
            # The compiler merges such products itself. If only the weights are e4m3, however, it then writes the merged
            # matrix out as float16 in every round (tensorrt-rtx 1.7.1).
            PackProjectionsPass()(model)
        if scheme is not None:
            quantize_role(model, in_float32(role), scheme, task.calibration, task.rounding)
        if task.lowering is Lowering.PORTABLE:
            _write_out(model)
        if dtype is not DType.FLOAT32:
            SetHalfTypePass(onnx_type(dtype))(model)
        AddAttentionMaskPass(onnx_type(dtype))(model)
        common.RemoveUnusedNodesPass()(model)
        common.NameFixPass()(model)
        NameNodesPass()(model)
        return PreparedRole(model, in_type(remaining_ports(model.graph, role), dtype))

    def compile(self, build: Build, folder: Path, options: CompilerOptions, progress: Progress) -> tuple[Engine, ...]:
        """See Backend."""
        from ptgc.compiler.backends.tensorrt_network import Compiler

        version = self.version()
        cache = TimingCache.of(options.timing_cache, self.name, version) if self._library.has_timing_cache else None
        compiler = Compiler(self._load(), self.name, options, cache)
        adopted = check_adopted(options.engines, build.manifest.roles, self.name, version)
        engines = []
        for name, role in build.manifest.roles.items():
            graph = folder / role.graph
            names = dimension_names(ir.load(graph).graph)
            found = engine_dimensions(names, build.manifest.shapes, name, role.mask_extra)
            for dimensions in found:
                path = f"{name}.engine"
                if len(found) > 1:
                    path = f"{name}.{dimensions.kv_capacity}.engine"
                task = _EngineTask(name, graph, dimensions, path, build.manifest.precision[name], role.states)
                if name in adopted:
                    progress(f"Taking {adopted[name]} as {path}")
                    engines.append(_adopt(task, adopted[name]))
                else:
                    engines.append(self._compile(compiler, task, progress))
        return tuple(engines)

    def _compile(self, compiler: Compiler, task: _EngineTask, progress: Progress) -> Engine:
        from ptgc.compiler.backends.tensorrt_network import compile_graph

        cost = estimate(_weight_bytes(ir.load(task.graph).graph), task.precision)
        require_memory(task.role, cost)
        progress(f"Compiling {task.path}: {cost}")
        start = time.perf_counter()
        made = compile_graph(compiler, task.graph, task.dimensions, task.role, progress)
        file = task.graph.with_name(task.path)
        with storage_errors(file):
            file.write_bytes(made.content)
        progress(f"Compiled {task.path} in {time.perf_counter() - start:.1f} s")
        return _engine(task, made.layers, made.not_native)

    def _load(self) -> Any:
        try:
            return importlib.import_module(self._library.module)
        except ImportError as error:
            raise BackendError(
                f"Backend '{self.name}' needs the Python module {self._library.module}, which is not here: {error}.",
                self._library.install,
            ) from error


@dataclass(frozen=True)
class _EngineTask:
    """One engine that a build needs."""

    role: str
    """The engine's role."""
    graph: Path
    """The prepared graph."""
    dimensions: Dimensions
    """The engine's sizes."""
    path: str
    """The engine's file, beside the graph."""
    precision: str
    """Precision of the role."""
    states: tuple[LayerState, ...]
    """The role's caches."""


def _write_out(model: ir.Model) -> None:
    """Write operators that older versions lack in terms of an older opset; float types are set afterwards."""
    WriteOutAttentionPass(portable_reason)(model)
    WriteOutTensorScatterPass()(model)
    WriteOutRotaryEmbeddingPass()(model)
    WriteOutRMSNormalizationPass()(model)
    LowerOpsetPass(_PORTABLE_OPSET)(model)


def _engine(task: _EngineTask, layers: dict[str, int], not_native: dict[str, str]) -> Engine:
    ranges, graph = task.dimensions.ranges, ir.load(task.graph).graph
    return Engine(
        role=task.role,
        path=task.path,
        sizes=task.dimensions.fixed,
        ranges={name: (one.least, one.best, one.most) for name, one in ranges.items()},
        engine_bytes=task.graph.with_name(task.path).stat().st_size,
        weight_bytes=_weight_bytes(graph),
        layers=layers,
        not_native=not_native,
        updates_in_place=_updates_in_place(graph, task.states),
    )


def _updates_in_place(graph: ir.Graph, states: Sequence[LayerState]) -> bool:
    """Whether TensorRT updates every cache in place, which it does for TensorScatter (as KV_CACHE_UPDATE)."""
    producers = {value.name: value.producer() for value in graph.outputs}
    caches = [producers[port.name] for layer, state in enumerate(states) for port in state.present_ports(layer)]
    return all(node is not None and node.op_type == "TensorScatter" for node in caches)


def _adopt(task: _EngineTask, source: Path) -> Engine:
    """Take an engine that was compiled elsewhere. It is copied, because the original belongs to the user."""
    file = task.graph.with_name(task.path)
    with storage_errors(file):
        shutil.copyfile(source, file)
    return _engine(task, {}, {})


def _weight_bytes(graph: ir.Graph) -> int:
    """Bytes of a graph's weights; weights that share storage count once."""
    found: dict[object, int] = {}
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is not None:
            place = (tensor.location, tensor.offset) if isinstance(tensor, ir.ExternalTensor) else id(tensor)
            found[place] = tensor.nbytes
    return sum(found.values())
