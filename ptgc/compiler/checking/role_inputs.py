"""Makes up inputs for any role from its ports, so that two forms of one graph can run on the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptgc.compiler.session_options import session_options
from ptgc.errors import BackendError
from ptgc.spec import ports
from ptgc.spec.role import Role

Array = NDArray[Any]

_SIZES: dict[str, int] = {
    ports.BATCH: 1,
    ports.NUM_TOKENS: 6,
    ports.KV_CAPACITY: 32,
    ports.NUM_LOGITS: 6,
    ports.SOURCE_LENGTH: 7,
    ports.CANVAS_LENGTH: 16,
    ports.MASK_SLOTS: 6,
}
_TYPES = {
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
}


@dataclass(frozen=True)
class InputPort:
    """An input of a loaded graph."""

    name: str
    """The input's name."""
    dtype: type
    """The numpy type."""
    shape: tuple[int, ...]
    """The sizes, with numbers for named dimensions."""


def load_graph(model: str | bytes, folder: Path | None = None) -> Any:
    """Load a graph into ONNX Runtime on the CPU.

    Args:
        model: Path of an ONNX file, or a serialised model.
        folder: The folder of the external data of a serialised model.

    Raises:
        BackendError: ONNX Runtime refuses the graph.
    """
    options = session_options(model)
    import onnxruntime

    if folder is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's errors share no base class
        raise BackendError(f"ONNX Runtime refuses {model if isinstance(model, str) else 'a graph'}: {error}") from error


def input_ports(session: Any) -> list[InputPort]:
    """The inputs of a loaded graph."""
    found = []
    for value in session.get_inputs():
        shape = tuple(size if isinstance(size, int) else _size(size) for size in value.shape)
        found.append(InputPort(value.name, _TYPES[value.type], shape))
    return found


def _size(dimension: str) -> int:
    """The size of a named dimension; caches with a window have as many slots as those without."""
    is_window = dimension.startswith(ports.WINDOW_CAPACITY)
    return _SIZES[ports.KV_CAPACITY] if is_window else _SIZES.get(dimension, 1)


def made_up_inputs(session: Any, vocab_size: int) -> dict[str, Array]:
    """Values for every input, the same for every form of a graph: random tokens, causal or open masks, empty caches."""
    found = input_ports(session)
    # To a drafter of blocks, rows before the first chosen one are context.
    first_row = 2 if any(port.name == ports.HIDDEN_STATES for port in found) else 0
    return {port.name: _value(port, vocab_size, first_row) for port in found}


def _value(port: InputPort, vocab_size: int, first_row: int) -> Array:
    random = np.random.default_rng(sum(port.name.encode()))
    shape, length = port.shape, port.shape[-1] if port.shape else 1
    made: Mapping[str, Callable[[], Array]] = {
        ports.POSITION_IDS.name: lambda: np.broadcast_to(np.arange(length), shape),
        ports.TREE_MASK.name: lambda: np.broadcast_to(np.tri(length, dtype=np.bool_), shape),
        ports.MASK_START.name: lambda: np.zeros(shape),
        ports.WRITE_INDEX.name: lambda: np.zeros(shape),
        ports.WINDOW_OFFSET.name: lambda: np.zeros(shape),
        ports.ROW_COUNT.name: lambda: np.full(shape, _SIZES[ports.NUM_TOKENS]),
        ports.LOGITS_ROWS.name: lambda: np.broadcast_to(
            np.minimum(np.arange(length) + first_row, _SIZES[ports.NUM_TOKENS] - 1), shape
        ),
        ports.LENGTHS.name: lambda: np.full(shape, _SIZES[ports.CANVAS_LENGTH]),
        ports.CANVAS_MASK.name: lambda: np.broadcast_to(np.arange(length) % 2 == 1, shape),
        ports.ENCODER_ATTENTION_MASK.name: lambda: np.ones(shape),
        ports.TIME.name: lambda: np.full(shape, 0.5),
        ports.STEP.name: lambda: np.full(shape, 2),
        ports.THRESHOLD.name: lambda: np.ones(shape),
        ports.TEMPERATURE.name: lambda: np.ones(shape),
        ports.UNIFORMS.name: lambda: random.random(shape),
    }
    if port.name in made:
        return np.ascontiguousarray(made[port.name]().astype(port.dtype))
    if port.dtype in (np.int64, np.int32):
        return random.integers(0, vocab_size, shape).astype(port.dtype)
    if port.name.startswith("past_key_values.") and ".encoder." not in port.name:
        return np.zeros(shape, port.dtype)
    return (random.standard_normal(shape) * 0.1).astype(port.dtype)


def common_outputs(role: Role, other: Role) -> list[str]:
    """The outputs that both forms of a role have."""
    given = {port.name for port in other.outputs}
    return [port.name for port in role.outputs if port.name in given]
