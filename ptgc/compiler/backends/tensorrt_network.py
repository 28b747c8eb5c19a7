"""Takes one prepared graph through TensorRT's parser and builder, and examines the network in between."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx_ir as ir

from ptgc.compiler.backends.base import Progress
from ptgc.compiler.backends.tensorrt_config import configure
from ptgc.compiler.backends.tensorrt_errors import Message, Origin, explain
from ptgc.compiler.backends.timing_cache import TimingCache
from ptgc.compiler.build.compiler_options import CompilerOptions
from ptgc.compiler.build.dimensions import Dimensions
from ptgc.compiler.lowering.fix_dimensions import FixDimensionsPass
from ptgc.compiler.lowering.write_out_attention import WRITTEN_OUT_KEY
from ptgc.graphs.piece import MODULE_KEY
from ptgc.graphs.storage import serialize

_NO_KERNEL = "not supported by a dedicated kernel"
_TYPES = {"FLOAT": "float32", "HALF": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True)
class Compiler:
    """A library and its options."""

    library: Any
    """The module `tensorrt` or `tensorrt_rtx`."""
    backend: str
    """The backend's name, for messages."""
    options: CompilerOptions
    """Options that passed `check_options`."""
    timing_cache: TimingCache | None
    """Kernels that it has measured; None if the library measures none."""


@dataclass(frozen=True)
class Compiled:
    """The result of compiling one graph."""

    content: Any
    """The engine's bytes, as a buffer."""
    layers: dict[str, int]
    """Layers of the network by type."""
    not_native: dict[str, str]
    """Attention and cache updates that did not become layers of their own: the reason by module."""


def compile_graph(compiler: Compiler, graph: Path, dimensions: Dimensions, role: str, progress: Progress) -> Compiled:
    """Compile one prepared graph at one set of sizes.

    Args:
        compiler: The library and its options.
        graph: The ONNX file; its weights are files beside it.
        dimensions: The sizes.
        role: The role, for messages.
        progress: Called with messages for the user.

    Raises:
        BuildError: The parser or the builder refuses the graph, or the timing cache that the user named is damaged.
    """
    library, backend = compiler.library, compiler.backend
    model = ir.load(graph)
    FixDimensionsPass(dimensions.fixed)(model)
    origins = {node.name or "": Origin(node.op_type, node.metadata_props.get(MODULE_KEY, "")) for node in model.graph}
    log = _logger(library)
    log.messages.clear()
    builder = library.Builder(log)
    network = builder.create_network(_flags(library))
    parser = library.OnnxParser(network, log)
    if not parser.parse(serialize(model), str(graph)):
        raise explain(role, backend, _parser_messages(parser), origins)
    config = builder.create_builder_config()
    configure(library, config, compiler.options)
    if compiler.timing_cache is not None:
        compiler.timing_cache.attach(config, progress)
    _add_profile(builder, config, model.graph, dimensions)
    content = builder.build_serialized_network(network, config)
    decomposed: dict[str, str] = {}
    if content is None and any(_NO_KERNEL in message for message in log.messages):
        decomposed = _decompose_attention(library, network)
        log.messages.clear()
        content = builder.build_serialized_network(network, config)
    if content is None:
        raise explain(role, backend, [Message(text) for text in log.messages], origins)
    if compiler.timing_cache is not None:
        compiler.timing_cache.keep(config)
    layers = Counter(layer.type.name for layer in _layers(network))
    not_native = _not_native(network, model.graph, decomposed)
    return Compiled(memoryview(content), dict(sorted(layers.items())), not_native)


@functools.cache  # the library keeps a process's first logger and ignores later ones
def _logger(library: Any) -> Any:
    class Log(library.ILogger):  # type: ignore[misc]  # the library has no types
        """Keeps errors and drops everything else."""

        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.messages: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (library.ILogger.Severity.ERROR, library.ILogger.Severity.INTERNAL_ERROR):
                self.messages.append(message)

    return Log()


def _flags(library: Any) -> int:
    """The types in the graph decide the precision. Versions without this flag always work so."""
    flag = getattr(library.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _parser_messages(parser: Any) -> list[Message]:
    errors = (parser.get_error(index) for index in range(parser.num_errors))
    return [Message(error.desc(), error.node_name()) for error in errors]


def _layers(network: Any) -> Iterator[Any]:
    return (network.get_layer(index) for index in range(network.num_layers))


def _add_profile(builder: Any, config: Any, graph: ir.Graph, dimensions: Dimensions) -> None:
    """Add a profile with the range of sizes of every input, if any dimension varies."""
    if not dimensions.ranges:
        return
    profile = builder.create_optimization_profile()
    for value in graph.inputs:
        assert value.name is not None and value.shape is not None
        bounds: tuple[list[int], list[int], list[int]] = ([], [], [])
        for size in value.shape:
            name = "" if isinstance(size, int) else str(size.value)
            found = dimensions.ranges.get(name)
            sizes = (found.least, found.best, found.most) if found is not None else (size,) * 3
            for bound, number in zip(bounds, sizes, strict=True):
                assert isinstance(number, int)
                bound.append(number)
        profile.set_shape(value.name, *(tuple(bound) for bound in bounds))
    assert config.add_optimization_profile(profile) >= 0, "ranges are ascending"


def _decompose_attention(library: Any, network: Any) -> dict[str, str]:
    """Allow the compiler to decompose attention; returns the reason by node name.

    It is not allowed from the beginning, because a build that succeeds without it proves that every attention has a
    kernel of its own.
    """
    reasons = {}
    for layer in _layers(network):
        if layer.type == library.LayerType.ATTENTION_INPUT:
            layer.__class__ = library.IAttentionInputLayer  # the Python binding's way of casting
            layer.attention.decomposable = True
            query = layer.get_input(0)
            what = f"{_TYPES.get(query.dtype.name, query.dtype.name)} attention with heads of {query.shape[-1]}"
            reasons[layer.name.removesuffix("_AttentionInput")] = f"{what} has no kernel; the compiler writes it out"
    return reasons


def _not_native(network: Any, graph: ir.Graph, decomposed: Mapping[str, str]) -> dict[str, str]:
    """The model's attention and cache updates that became no layers of those types: the reason by module."""
    wanted = ("KV_CACHE_UPDATE", "ATTENTION_OUTPUT")  # before 10.15 the library has no such types
    names = {layer.name.removesuffix("_AttentionOutput") for layer in _layers(network) if layer.type.name in wanted}
    reasons: dict[str, str] = {}
    for node in graph:
        module, name = node.metadata_props.get(MODULE_KEY, ""), node.name or ""
        if WRITTEN_OUT_KEY in node.metadata_props:
            reasons[module] = node.metadata_props[WRITTEN_OUT_KEY]
        elif name in decomposed:
            reasons[module] = decomposed[name]
        elif node.op_type in ("Attention", "TensorScatter") and name not in names:
            reasons[module] = f"the parser made no layer of its own of {node.op_type}, and says no reason"
    return reasons
