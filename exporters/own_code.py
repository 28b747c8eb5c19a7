"""Models whose code came with their checkpoint, and whose errors are therefore not ptgc's bugs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from ptgc.errors import ExportError, PtgcError

_SAME = 1e-3  # of the logits' own size
_KNOWN = ("transformers.", "ptgc.", "torch.")


def is_own_code(module: nn.Module) -> bool:
    """Whether a module's class comes from outside the packages that this version is tested with."""
    return not type(module).__module__.startswith(_KNOWN)


@contextmanager
def own_code_errors(module: nn.Module) -> Iterator[None]:
    """Turn an exception raised by a module's own code into an error that says so.

    Raises:
        ExportError: The code failed.
    """
    try:
        yield
    except Exception as error:  # such code may raise anything
        if not is_own_code(module) or isinstance(error, PtgcError | MemoryError):
            raise
        raise ExportError(
            f"{type(module).__name__}, whose code came with the checkpoint, failed when it was run: "
            f"{type(error).__name__}: {error}",
            "docs/adding-a-model.md says what a model's forward takes and gives.",
        ) from error


@torch.no_grad()
def check_causal(module: nn.Module) -> None:
    """Refuse a model whose predictions depend on tokens that come later.

    Raises:
        ExportError: It is bidirectional, or fails when it is run.
    """
    text = torch.tensor([[1, 2, 3, 4], [1, 2, 3, 5]])
    with own_code_errors(module):
        logits: Tensor = module(input_ids=text, attention_mask=torch.ones_like(text)).logits[:, :-1].float()
    if torch.allclose(logits[0], logits[1], rtol=_SAME, atol=_SAME * float(logits.abs().max())):
        return
    raise ExportError(
        f"{type(module).__name__} is bidirectional: what it predicts depends on tokens that come later, so that it "
        "cannot write a text token by token.",
        "If it is a masked language model, export it with --strategy masked-diffusion.",
    )


class AttendToValid(TorchFunctionMode):
    """While open, non-causal attention without a mask does not see padding."""

    def __init__(self, valid: Tensor) -> None:  # bool [batch, length]
        super().__init__()
        self._valid = valid

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Intercept every PyTorch function."""
        named = dict(kwargs or {})
        unmasked = len(args) == 3 and named.get("attn_mask") is None and not named.get("is_causal")
        if func is scaled_dot_product_attention and unmasked:
            between = (1,) * (args[0].ndim - 2)
            named["attn_mask"] = self._valid.view(self._valid.shape[0], *between, self._valid.shape[1])
        return func(*args, **named)
