"""Running a role's graph from Python, one sequence at a time: for checking, not for speed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptgc.compiler.session_options import session_options
from ptgc.errors import BackendError
from ptgc.spec import ports
from ptgc.spec.kv_cache import LayerState
from ptgc.spec.role import Role
from ptgc.spec.tree import TreeSpec

Logits = NDArray[np.float32]

NUMPY_TYPES = {"float32": np.float32, "float16": np.float16}
PROVIDERS = {"cpu": ["CPUExecutionProvider"], "cuda": ["CUDAExecutionProvider", "CPUExecutionProvider"]}
"""ONNX Runtime's execution providers, by kind of device."""
_DRIVEN = {port.name for port in (*ports.CAUSAL_INPUTS, ports.WINDOW_OFFSET)}


def writes_alone(role: Role) -> bool:
    """Whether a role is a language model that depends on no other role."""
    return writes(role) and not role.cross_states


def writes(role: Role) -> bool:
    """Whether a role is a language model that depends on no other role, except perhaps an encoder."""
    read = {ports.ENCODER_ATTENTION_MASK.name} if role.cross_states else set()
    return bool(role.states) and {port.name for port in role.inputs} <= _DRIVEN | read


class GraphSession:
    """One sequence on a role's graph in ONNX Runtime.

    Args:
        path: The ONNX file.
        role: Its ports and states.
        capacity: Slots of the cache.
        num_threads: Threads of the engine; 0 leaves the number to ONNX Runtime.
        read: Inputs that are the same in every round, by port: an encoder's output and its mask.
        device: Kind of device to run on.
        frugal: Whether to save memory: weights stay in their file instead of being repacked for the kernels, and freed
            memory goes back to the system. The last bits of products differ then.
    """

    def __init__(
        self,
        path: Path,
        role: Role,
        capacity: int,
        num_threads: int = 0,
        read: Mapping[str, NDArray[Any]] | None = None,
        *,
        device: str = "cpu",
        frugal: bool = False,
    ) -> None:
        options = session_options(str(path))
        import onnxruntime

        options.intra_op_num_threads = num_threads
        if frugal:
            options.enable_cpu_mem_arena = False
            options.add_session_config_entry("session.disable_prepacking", "1")
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=PROVIDERS[device])
        except Exception as error:  # onnxruntime's errors share no base class
            raise BackendError(f"ONNX Runtime refuses {path}: {error}") from error
        self._run_options = onnxruntime.RunOptions()
        self._run_options.only_execute_path_to_fetches = True
        self._wrap = onnxruntime.OrtValue.ortvalue_from_numpy
        known = {value.name for value in self._session.get_inputs()}
        self._read = {name: self._wrap(value) for name, value in (read or {}).items() if name in known}
        self._inputs = {port.name for port in role.inputs} - set(self._read)
        self._mask_extra = role.mask_extra
        self.caches = _caches(role.states, capacity, self._wrap)
        self.length = 0

    def forward(self, ids: Sequence[int], tree: TreeSpec | None = None, first_node: int = 0) -> Logits:
        """Run one round; call `commit` afterwards to keep its first tokens.

        Args:
            ids: The tokens of the round.
            tree: Their tree; None means a chain.
            first_node: The node of the first token; the nodes before it were run since the last commit.

        Returns:
            Logits of every row, `[tokens, vocab]`.
        """
        tree = tree or TreeSpec.chain(len(ids) - 1)
        logits: Logits = self._run(ids, tree, ["logits"], first_node)[0][0]
        return logits.astype(np.float32)

    def observe(self, ids: Sequence[int], outputs: Sequence[str]) -> list[NDArray[Any]]:
        """Run a chain and return the given outputs; only what they depend on is computed."""
        return self._run(ids, TreeSpec.chain(len(ids) - 1), outputs)

    def reset(self) -> None:
        """Begin another sequence."""
        self.length = 0

    def _run(
        self, ids: Sequence[int], tree: TreeSpec, outputs: Sequence[str], first_node: int = 0
    ) -> list[NDArray[Any]]:
        start, end = self.length, first_node + len(ids)
        mask = np.zeros((1, len(ids), len(ids) + self._mask_extra), dtype=np.bool_)
        mask[0, :, :end] = np.array(tree.ancestors())[first_node:end, :end]
        values = {
            "input_ids": np.array([ids], dtype=np.int64),
            "position_ids": start + np.array([tree.depths[first_node:end]], dtype=np.int64),
            "tree_mask": mask,
            "mask_start": np.array([start], dtype=np.int64),
            "write_index": np.array([start + first_node], dtype=np.int64),
            "row_count": np.array([len(ids)], dtype=np.int64),
            "logits_rows": np.arange(len(ids), dtype=np.int64)[None],
            "window_offset": np.zeros(1, dtype=np.int64),  # these caches hold the whole text and do not slide
        }
        binding = self._session.io_binding()
        for name in self._inputs:
            binding.bind_ortvalue_input(name, self._wrap(values[name]))
        for name, value in self._read.items():
            binding.bind_ortvalue_input(name, value)
        for past, (present, buffer) in self.caches.items():
            binding.bind_ortvalue_input(past, buffer)
            binding.bind_ortvalue_output(present, buffer)
        for name in outputs:
            binding.bind_output(name, "cpu")
        self._session.run_with_iobinding(binding, self._run_options)
        return [value.numpy() for value in binding.get_outputs()[-len(outputs) :]]

    def commit(self, num_tokens: int) -> None:
        """Keep the first `num_tokens` rows of the last round."""
        self.length += num_tokens

    def prefill(self, ids: Sequence[int], chunk: int = 128) -> Logits:
        """Read a text in chunks and return the logits of all its rows."""
        found = []
        for start in range(0, len(ids), chunk):
            part = ids[start : start + chunk]
            found.append(self.forward(part))
            self.commit(len(part))
        return np.concatenate(found)


def _caches(states: Sequence[LayerState], capacity: int, wrap: Callable[[Any], Any]) -> dict[str, tuple[str, Any]]:
    found = {}
    for layer, state in enumerate(states):
        for past, present in zip(state.past_ports(layer), state.present_ports(layer), strict=True):
            shape = (1, state.kv_heads, capacity, state.head_dim)
            found[past.name] = (present.name, wrap(np.zeros(shape, NUMPY_TYPES[state.dtype.value])))
    return found
