"""Turns TensorRT's error messages into a cause and a remedy."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ptgc.errors import BuildError


@dataclass(frozen=True)
class Origin:
    """Where a node of the prepared graph comes from."""

    operator: str
    """Its operator."""
    module: str
    """The path of the PyTorch module, or the piece of graph."""

    def __str__(self) -> str:
        return f"{self.operator} in {self.module}"


@dataclass(frozen=True)
class Message:
    """One error message of the parser or the builder."""

    text: str
    """The message."""
    node: str = ""
    """The node that it names; empty if it names none."""


@dataclass(frozen=True)
class _Obstacle:
    """A TensorRT message whose cause is known."""

    pattern: str
    """Regular expression to look for in the message."""
    meaning: str
    """The cause."""
    action: str
    """The remedy."""


_ONNXRUNTIME = "Build this bundle with --backend onnxruntime."
_OUTSIDE = "Compute it outside the graph: export with it on the host's side, or build with --backend onnxruntime."

_OBSTACLES = (
    _Obstacle(
        r"only supports Attention nodes with one output",
        "TensorRT's attention has one output; caches and scores cannot be further ones",
        "Write the cache with TensorScatter before Attention, as ptgc's own exporters do.",
    ),
    _Obstacle(
        r"softcap is not supported",
        "TensorRT's attention has no soft capping",
        "Prepare the bundle again (ptgc build --replace), which writes soft capping out.",
    ),
    _Obstacle(
        r"softmax_precision",
        "TensorRT's attention chooses the precision of its softmax itself",
        "Export without the attribute softmax_precision.",
    ),
    _Obstacle(
        r"Only linear mode is supported",
        "TensorRT writes caches linearly, not as a ring",
        "Export with windows as masks over a linear cache.",
    ),
    _Obstacle(
        r"static sequence length dimension",
        "TensorRT's cache needs a capacity that is a number",
        "Name the cache's third dimension kv_capacity, which a build fixes.",
    ),
    _Obstacle(
        r"cache has type \w+ but must have type",
        "TensorRT's cache is float32, float16 or bfloat16",
        "Build with --precision float16; int8 and int4 keep float16 caches too.",
    ),
    _Obstacle(
        r"Scale coefficients must all be positive",
        "8-bit weights need positive scales",
        "Prepare the bundle again (ptgc build --replace), or quantise with positive scales.",
    ),
    _Obstacle(
        r"Non-zero zero point",
        "weights must be quantised symmetrically",
        "Quantise without zero points; 4-bit weights around 8 become signed ones around 0.",
    ),
    _Obstacle(
        r"UNSUPPORTED_NODE.*getWeightsContext|getWeightsContext\(\)",
        "unsigned 4-bit weights are not taken",
        "Use signed int4 weights, as ptgc build --precision int4 makes them.",
    ),
    _Obstacle(
        r"K exceeds the maximum value allowed",
        "TopK takes at most the 3840 largest",
        "Choose a smaller k in the graph.",
    ),
    _Obstacle(r"ScatterND with reduction", "ScatterND cannot add up", "Write it with ScatterElements or a product."),
    _Obstacle(
        r"HW-specific datatypes: ([\w, ]+)",
        "a compute capability of --compute-capability has no arithmetic for the precision",
        "bfloat16 and int4 need 8.0 and newer, fp8 8.9, fp4 12.0; leave the older ones out, or use float16.",
    ),
    _Obstacle(
        r"for Turing \(SM75\)",
        "compute capability 7.5 has no arithmetic for the precision",
        "Build with --precision float16 or int8, or leave 7.5 out.",
    ),
    _Obstacle(
        r"not supported by a dedicated kernel",
        "there is no attention kernel for this type or head size",
        "Build with --precision float16 or bfloat16.",
    ),
    _Obstacle(
        r"Compute capability is invalid or not supported",
        "the compiler does not know a compute capability of --compute-capability",
        "Leave it out, or compile with --backend tensorrt on such a device.",
    ),
    _Obstacle(
        r"CHECK\(status == CUDA_SUCCESS\)",
        "engines that can be refitted, or have no weights, are compiled where the GPU is",
        "Leave --refit and --strip-weights out, or compile on a machine with the GPU.",
    ),
    _Obstacle(
        r"libnvinfer_lean",
        "an engine for later versions carries the lean runtime, which is not installed",
        "Leave --version-compatible out, or install the lean runtime beside TensorRT.",
    ),
    _Obstacle(
        r"cudaError|CUDA driver version is insufficient|Cuda Runtime",
        "this step needs an NVIDIA GPU and its driver, and there is none",
        "Compile on a machine with the GPU, or ahead of time with --backend tensorrt-rtx.",
    ),
    _Obstacle(
        r"no optimization profile has been defined",
        "a size depends on a value that only the run knows",
        "Export with sizes that follow from the shapes of the ports.",
    ),
    _Obstacle(
        r"is not produced by",
        "casts to 8-bit floats are not taken",
        "Use QuantizeLinear instead of Cast.",
    ),
    _Obstacle(r"(\w+) plugin creator version|Plugin not found", "TensorRT has no such operator", _OUTSIDE),
    _Obstacle(
        r"[Oo]ut of memory|std::bad_alloc", "the memory is used up", "Free memory, or build on a larger machine."
    ),
)


def explain(role: str, backend: str, messages: Iterable[Message], origins: Mapping[str, Origin]) -> BuildError:
    """The error for a role that TensorRT refuses.

    Args:
        role: Which role.
        backend: Name of the backend.
        messages: What the parser or the builder said, the most informative first.
        origins: The nodes of the prepared graph by name.
    """
    messages = list(messages)
    for message in messages:
        for obstacle in _OBSTACLES:
            if re.search(obstacle.pattern, message.text):
                return _error(role, backend, message, origins, obstacle)
    unknown = _Obstacle("", "", _ONNXRUNTIME)
    first = messages[0] if messages else Message("no reason was given")
    return _error(role, backend, first, origins, unknown)


def _error(role: str, backend: str, message: Message, origins: Mapping[str, Origin], obstacle: _Obstacle) -> BuildError:
    origin = _origin(message, origins)
    where = f" at {origin}" if origin is not None else ""
    reason = f"{obstacle.meaning}. " if obstacle.meaning else ""
    said = " ".join(message.text.split())
    return BuildError(
        f"{backend} cannot compile role '{role}'{where}: {reason}It says: {said[:400].rstrip('.')}.",
        obstacle.action,
    )


def _origin(message: Message, origins: Mapping[str, Origin]) -> Origin | None:
    """The node that the message names, else the first one whose name stands in its text."""
    if message.node in origins:
        return origins[message.node]
    names = re.findall(r"[^\s\[\]{}(),;:'\"]+/[A-Za-z]+_\d+", message.text)
    return next((origins[name] for name in names if name in origins), None)
