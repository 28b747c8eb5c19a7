"""Tracing any PyTorch module whose arguments are ports into a standard graph."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ptgc.errors import ExportError
from ptgc.exporters.own_code import is_own_code
from ptgc.graphs.passes.expand_attention_mask import ExpandAttentionMaskPass
from ptgc.spec import ports
from ptgc.spec.ports import DType, Port

DTYPES = {
    torch.float32: DType.FLOAT32,
    torch.float16: DType.FLOAT16,
    torch.bfloat16: DType.BFLOAT16,
    torch.int64: DType.INT64,
    torch.bool: DType.BOOL,
}
_TORCH_TYPES = {dtype: torch_type for torch_type, dtype in DTYPES.items()}
# Example sizes, all different so that no two dimensions are confused, and the largest values.
_EXAMPLES = {
    ports.BATCH: (3, 1024),
    ports.NUM_TOKENS: (7, 4096),
    ports.KV_CAPACITY: (37, 1 << 20),
    ports.NUM_LOGITS: (5, 4096),
    ports.SOURCE_LENGTH: (11, 1 << 16),
    ports.CANVAS_LENGTH: (13, 1 << 16),
}

Call = Callable[..., Any]
"""How a module is called with the values of the ports: `call(module, *values)`."""


class _Ported(nn.Module):
    """Takes the inputs as one list, since torch.export wants their sizes in the same structure."""

    def __init__(self, model: nn.Module, call: Call) -> None:
        super().__init__()
        self.model = model  # TidyPass removes this name from paths
        self._call = call

    def forward(self, inputs: list[Tensor]) -> Any:
        return self._call(self.model, *inputs)


def call_module(module: nn.Module, *values: Tensor) -> Any:
    """Call the module with the values in order."""
    return module(*values)


def trace_module(
    module: nn.Module,
    inputs: Sequence[Port],
    call: Call = call_module,
    longest: Mapping[str, int | None] | None = None,
) -> ir.Model:
    """Trace a module into a graph whose inputs are the ports, in their order, and whose outputs are still unnamed.

    Args:
        module: The module, in eval mode.
        inputs: The input ports; their named dimensions stay dynamic.
        call: How to call the module with them.
        longest: The largest size of a dimension, if the module has a limit.

    Raises:
        ExportError: Part of the module cannot become a standard graph.
    """
    sizes = {name: _largest(name, (longest or {}).get(name)) for name in _EXAMPLES}
    dims = {name: torch.export.Dim(name, min=2, max=largest) for name, (_, largest) in sizes.items()}
    example = [_example(port, sizes) for port in inputs]
    dynamic = [{axis: dims[d] for axis, d in enumerate(port.shape) if isinstance(d, str)} for port in inputs]
    try:
        with quiet_exporter(), torch.no_grad():
            program = torch.onnx.export(
                _Ported(module, call).eval(),
                (example,),
                dynamo=True,
                opset_version=ports.OPSET,
                dynamic_shapes=(dynamic,),
                input_names=[port.name for port in inputs],
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = _first_reason(error)
        raise ExportError(f"{type(module).__name__} could not be traced: {reason}") from error
    assert program is not None
    model = program.model
    program.exported_program = None
    for value, port in zip(model.graph.inputs, inputs, strict=True):
        value.name, value.shape = port.name, ir.Shape(port.shape)
    ExpandAttentionMaskPass()(model)
    return model


def _largest(name: str, limit: int | None) -> tuple[int, int]:
    """An example size and the largest one."""
    size, largest = _EXAMPLES[name]
    largest = min(largest, limit or largest)
    return min(size, largest), largest


def _example(port: Port, sizes: Mapping[str, tuple[int, int]]) -> Tensor:
    shape = [sizes[dim][0] if isinstance(dim, str) else dim for dim in port.shape]
    return torch.ones(shape, dtype=_TORCH_TYPES[port.dtype])


def _first_reason(error: BaseException) -> str:
    """The innermost cause, which names what PyTorch could not trace."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else error!r}"


@contextlib.contextmanager
def quiet_exporter() -> Iterator[None]:
    """While open, PyTorch's exporter does not warn about its own internals."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def standard_attention(module: nn.Module) -> Iterator[None]:
    """While open, a transformers model attends with PyTorch's own operator, which is traced into one ONNX node.

    Raises:
        ExportError: The model has its own attention code.
    """
    if not isinstance(module, PreTrainedModel) or is_own_code(module):
        yield
        return
    previous = str(module.config._attn_implementation)
    try:
        module.set_attn_implementation("sdpa")
    except ValueError as error:
        raise ExportError(f"{type(module).__name__} has attention of its own, which cannot be traced.") from error
    try:
        yield
    finally:
        module.set_attn_implementation(previous)
