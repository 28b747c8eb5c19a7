"""An unmasking policy of one's own: a small module, traced into the denoiser's graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ptgc.errors import ExportError
from ptgc.exporters.roles.base import POLICY
from ptgc.exporters.tracing.traced_module import trace_module
from ptgc.graphs.canvas.reference import OwnScores
from ptgc.graphs.passes.tidy import TidyPass
from ptgc.spec import ports
from ptgc.spec.canvas import CanvasPlan, PolicyKind
from ptgc.spec.ports import DType, Port

_FORM = "docs/adding-a-model.md says what a policy takes and gives."
_PROBED = (3, 6)  # texts and columns of the canvas that a policy is tried on
_PADDING = 2  # columns behind it


def own_policy(modules: Mapping[str, nn.Module], plan: CanvasPlan) -> OwnScores | None:
    """The module as a function of arrays; None if the plan has another policy."""
    if plan.policy.kind is not PolicyKind.OWN:
        return None
    module = modules[POLICY]

    def score(*given: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any] | None]:
        scores, added = _call(module, *(torch.from_numpy(np.ascontiguousarray(one)) for one in given))
        return scores.numpy(), None if added is None else added.numpy()

    return score


def trace_policy(modules: Mapping[str, nn.Module], plan: CanvasPlan, vocab_size: int, columns: str) -> ir.Model | None:
    """Trace the module; None if the plan has another policy.

    Args:
        modules: Those of all roles, and the policy.
        plan: Names the policy.
        vocab_size: Entries of the denoiser's logits.
        columns: The dimension of its positions.

    Raises:
        ExportError: It gives something else than scores, mixes texts, reads padding, or cannot be traced.
    """
    if plan.policy.kind is not PolicyKind.OWN:
        return None
    module = modules[POLICY]
    _check_rows(module, vocab_size)
    inputs = (
        Port("probabilities", DType.FLOAT32, (ports.BATCH, columns, vocab_size)),
        Port("token_ids", DType.INT64, (ports.BATCH, columns)),
        Port("canvas_mask", DType.BOOL, (ports.BATCH, columns)),
        ports.STEP,
        ports.THRESHOLD,
    )
    model = trace_module(module, inputs)
    TidyPass()(model)
    if any(
        one.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)
        for n in model.graph
        for one in n.attributes.values()
    ):
        raise ExportError(f"{type(module).__name__} has branches or loops that depend on values.", _FORM)
    return model


@torch.no_grad()
def _call(module: nn.Module, *given: Tensor) -> tuple[Tensor, Tensor | None]:
    """Scores, and which positions are filled as well.

    Raises:
        ExportError: The module gives something else.
    """
    made = module(*given)
    found = tuple(made) if isinstance(made, (tuple, list)) else (made,)
    size, wanted = tuple(given[1].shape), (torch.float32, torch.bool)
    given_forms = ", ".join(
        f"{one.dtype} {list(one.shape)}".removeprefix("torch.") if isinstance(one, Tensor) else type(one).__name__
        for one in found
    )
    fits = 1 <= len(found) <= len(wanted) and all(
        isinstance(one, Tensor) and one.dtype == dtype and tuple(one.shape) == size
        for one, dtype in zip(found, wanted, strict=False)
    )
    if not fits:
        raise ExportError(
            f"{type(module).__name__} is no policy: for {size[0]} texts of {size[1]} positions it gives {given_forms}; "
            f"it must give scores, float32 {list(size)}, and may give as a second value bool {list(size)}.",
            _FORM,
        )
    if bool(found[0].masked_select(given[2]).isnan().any()):
        raise ExportError(
            f"{type(module).__name__} gives NaN as the score of a masked position.",
            "Probabilities may be 0: write torch.special.entr(p) or torch.xlogy(p, p), not p * p.log().",
        )
    return found[0], found[1] if len(found) > 1 else None


def _check_rows(module: nn.Module, vocab_size: int) -> None:
    """Check that a text's scores depend neither on other texts nor on what lies behind it.

    Raises:
        ExportError: They do.
    """
    generator = torch.Generator().manual_seed(0)
    texts, length = _PROBED
    p = torch.randn(texts, length + _PADDING, vocab_size, generator=generator).mul(3).softmax(-1)
    p[0, 0] = torch.nn.functional.one_hot(torch.tensor(vocab_size - 1), vocab_size)
    mask = torch.ones(texts, length + _PADDING, dtype=torch.bool)
    mask[1, ::2] = False
    mask[:, length:] = False
    given = (p, p.argmax(-1), mask, torch.arange(1, texts + 1), torch.linspace(0.1, 0.9, texts))
    whole = _call(module, *given)
    for row in range(texts):
        one = [value[row : row + 1] for value in given]
        alone = _call(module, *(value[:, :length] if value.ndim > 1 else value for value in one))
        where = mask[row, :length]
        for found, expected in zip(whole, alone, strict=True):
            if found is None or expected is None:
                continue
            if not torch.allclose(found[row, :length][where].float(), expected[0][where].float(), atol=1e-5):
                raise ExportError(
                    f"{type(module).__name__} mixes texts, or reads padding: its scores of a text change with other "
                    "texts of the batch, or with positions behind it, where canvas_mask is false.",
                    "Reduce over the vocabulary, or over positions where canvas_mask is true.",
                )
