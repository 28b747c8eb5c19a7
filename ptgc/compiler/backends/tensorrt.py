"""TensorRT and TensorRT-RTX, one interface: standard graphs in the precision asked for, engines ahead of time."""

from __future__ import annotations

import importlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
import onnx_ir.passes.common as common

from ptgc.compiler.backends.base import Backend, Preparation, PreparedRole, Progress
from ptgc.compiler.dimensions import Dimensions, engine_dimensions
from ptgc.compiler.float_roles import in_float32
from ptgc.compiler.lowering.add_attention_mask import AddAttentionMaskPass
from ptgc.compiler.lowering.fix_dimensions import dimension_names
from ptgc.compiler.lowering.name_nodes import NameNodesPass
from ptgc.compiler.lowering.set_half_type import SetHalfTypePass
from ptgc.compiler.lowering.write_out_attention import WriteOutAttentionPass
from ptgc.compiler.quantization.quantize_weights import QuantizeWeightsPass
from ptgc.compiler.quantization.second_moments import second_moments
from ptgc.compiler.quantization.weight_format import WeightFormat
from ptgc.errors import BackendError
from ptgc.graphs.passes.normalize_linear import NormalizeLinearPass
from ptgc.graphs.passes.set_float_type import SetFloatTypePass
from ptgc.graphs.values import onnx_type
from ptgc.spec.bundle import Build
from ptgc.spec.engine import Engine
from ptgc.spec.manifest import Role
from ptgc.spec.plan import DecodePlan
from ptgc.spec.ports import DType, Port
from ptgc.spec.staging import storage_errors

# int8: one positive scale a channel. Blocks of 64 made the engine of SmolLM2-135M 1.57 times its weights, because the
# compiler widened the embedding; channels 1.13 times (docs/tensorrt.md).
_FORMATS = {"int8": WeightFormat(8, ()), "int4": WeightFormat(4, (32,))}
_FLOATS = frozenset({DType.FLOAT32, DType.FLOAT16, DType.BFLOAT16})


@dataclass(frozen=True)
class Library:
    """One of the two Python modules with this interface."""

    backend: str
    """The backend's name."""
    module: str
    """The module."""
    install: str
    """How to get it."""


TENSORRT = Library(
    "tensorrt",
    "tensorrt",
    "It is not on the Python package index. On a server with an NVIDIA GPU: pip install --extra-index-url "
    "https://pypi.nvidia.com tensorrt; on a Jetson it comes with JetPack 7.2 or newer. Without a GPU build with "
    "--backend tensorrt-rtx, or stop after --stage prepare.",
)
TENSORRT_RTX = Library("tensorrt-rtx", "tensorrt_rtx", 'Install it: pip install "ptgc[build,tensorrt-rtx]"')


class TensorRTBackend(Backend):
    """Weights in the graph's own types (the compiler chooses none), one engine for each role and cache capacity.

    Args:
        library: Which of the two.
    """

    devices: Sequence[str] = ("cuda",)
    precisions: Sequence[str] = ("float16", "bfloat16", "float32", "int8", "int4")
    compiles_ahead = True

    def __init__(self, library: Library) -> None:
        self._library = library
        self.name = library.backend

    def version(self) -> str:
        """See Backend."""
        return str(self._load().__version__)

    def pays_for_capacity(self, plan: DecodePlan, batch_size: int) -> bool:  # noqa: ARG002  # the seam's
        """It does, but every further capacity is a further engine, with all weights in it again."""
        return False

    def check_capabilities(self, capabilities: Sequence[str]) -> None:
        """See Backend."""
        from ptgc.compiler.backends.tensorrt_network import known_capabilities, refuse_unknown

        refuse_unknown(capabilities, known_capabilities(self._load()) if capabilities else (), self.name)

    def prepare(self, model: ir.Model, role: Role, task: Preparation) -> PreparedRole:
        """See Backend: the graph is the same for every plan, and sizes are set when it is compiled."""
        weight_format = _FORMATS.get(task.precision)
        dtype = DType.FLOAT16 if weight_format is not None else DType(task.precision)
        SetFloatTypePass()(model)
        NormalizeLinearPass()(model)
        common.ShapeInferencePass()(model)
        WriteOutAttentionPass()(model)
        if weight_format is not None:
            moments = second_moments(model, in_float32(role), task.calibration)
            QuantizeWeightsPass(weight_format, moments)(model)
        if dtype is not DType.FLOAT32:
            SetHalfTypePass(onnx_type(dtype))(model)
        AddAttentionMaskPass(onnx_type(dtype))(model)
        common.RemoveUnusedNodesPass()(model)
        common.NameFixPass()(model)
        NameNodesPass()(model)
        return PreparedRole(model, _in_type(role, dtype))

    def compile(
        self, build: Build, folder: Path, capabilities: Sequence[str], progress: Progress
    ) -> tuple[Engine, ...]:
        """See Backend."""
        library = self._load()
        engines = []
        for name, role in build.manifest.roles.items():
            graph = folder / role.graph
            found = engine_dimensions(dimension_names(ir.load(graph).graph), build.manifest.shapes, name)
            for dimensions in found:
                path = f"{name}.engine"
                if len(found) > 1:
                    path = f"{name}.{dimensions.kv_capacity}.engine"
                progress(f"Compiling {path}")
                start = time.perf_counter()
                engines.append(self._compile(library, graph, name, dimensions, capabilities, path))
                progress(f"Compiled {path} in {time.perf_counter() - start:.1f} s")
        return tuple(engines)

    def _compile(
        self,
        library: Any,
        graph: Path,
        role: str,
        dimensions: Dimensions,
        capabilities: Sequence[str],
        path: str,
    ) -> Engine:
        from ptgc.compiler.backends.tensorrt_network import compile_graph

        made = compile_graph(library, graph, dimensions, capabilities, role, self.name)
        file = graph.with_name(path)
        with storage_errors(file):
            file.write_bytes(made.content)
        return Engine(
            role=role,
            path=path,
            sizes=dimensions.fixed,
            ranges={name: (one.least, one.best, one.most) for name, one in dimensions.ranges.items()},
            engine_bytes=file.stat().st_size,
            weight_bytes=_weight_bytes(ir.load(graph).graph),
            layers=made.layers,
            not_native=made.not_native,
        )

    def _load(self) -> Any:
        try:
            return importlib.import_module(self._library.module)
        except ImportError as error:
            raise BackendError(
                f"Backend '{self.name}' needs the Python module {self._library.module}, which is not here: {error}.",
                self._library.install,
            ) from error


def _weight_bytes(graph: ir.Graph) -> int:
    """Bytes of a graph's weights, those that lie in one place counted once."""
    found: dict[object, int] = {}
    for value in graph.initializers.values():
        tensor = value.const_value
        if tensor is not None:
            place = (tensor.location, tensor.offset) if isinstance(tensor, ir.ExternalTensor) else id(tensor)
            found[place] = tensor.nbytes
    return sum(found.values())


def _in_type(role: Role, dtype: DType) -> Role:
    """The role as it computes now; ports of less than three dimensions (policies, confidences) stay float32."""

    def typed(port: Port) -> Port:
        return replace(port, dtype=dtype) if port.dtype in _FLOATS and len(port.shape) > 2 else port

    return replace(
        role,
        inputs=tuple(typed(port) for port in role.inputs),
        outputs=tuple(typed(port) for port in role.outputs),
        states=tuple(replace(state, dtype=dtype) for state in role.states),
        cross_states=tuple(replace(state, dtype=dtype) for state in role.cross_states),
        commit_graph=None,
    )
