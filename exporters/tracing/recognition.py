"""Which modules and functions of a model are standard operators in disguise, found by numeric probes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ptgc.exporters.tracing.experts import dense_experts
from ptgc.exporters.tracing.operators import symbolic

_Rotate = Callable[..., tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class RotaryForm:
    """How a modeling file's `apply_rotary_pos_emb` pairs up the elements of a head."""

    interleaved: bool
    """Whether pairs are neighbours; otherwise they are halves of the head."""
    cosines_in_pairs: bool
    """Whether every cosine is repeated at once; otherwise the whole row of cosines is repeated."""
    partial: bool
    """Whether fewer cosines than elements leave the rest of the head unchanged."""

    def angles(self, values: Tensor) -> Tensor:
        """Cosines or sines without repeats: `[batch, num_tokens, n]` to `[batch, num_tokens, n / 2]`."""
        return values[..., ::2] if self.cosines_in_pairs else values[..., : values.shape[-1] // 2]

    def repeated(self, angles: Tensor) -> Tensor:
        """The inverse of `angles`."""
        return angles.repeat_interleave(2, dim=-1) if self.cosines_in_pairs else torch.cat([angles] * 2, dim=-1)

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Rotate heads `[batch, heads, num_tokens, head_dim]`."""
        attributes = {"interleaved": int(self.interleaved)}
        if cos.shape[-1] < x.shape[-1]:
            attributes["rotary_embedding_dim"] = cos.shape[-1]
        return symbolic("RotaryEmbedding", [x, self.angles(cos), self.angles(sin)], attributes, x)


_FORMS = [
    RotaryForm(interleaved, cosines_in_pairs, partial)
    for interleaved, cosines_in_pairs in ((False, False), (True, False), (True, True))
    for partial in (True, False)
]


@contextlib.contextmanager
def standard_modules(model: PreTrainedModel) -> Iterator[None]:
    """While open, the model's norms and rotary embeddings are standard operators, and its experts can be traced."""
    forwards = {module: forward for module in model.modules() if (forward := _rms_norm(module)) is not None}
    modeling = {sys.modules[type(module).__module__] for module in model.modules()}
    rotated = {}
    for namespace in modeling:
        function = getattr(namespace, "apply_rotary_pos_emb", None)
        form = rotary_form(function) if function is not None else None
        if function is not None and form is not None:
            rotated[namespace] = (function, form)
    with dense_experts(model):
        try:
            for module, forward in forwards.items():
                module.forward = forward
            for namespace, (function, form) in rotated.items():
                namespace.apply_rotary_pos_emb = _rotation(function, form)  # type: ignore[attr-defined]  # undone below
            yield
        finally:
            for module in forwards:
                del module.forward
            for namespace, (function, _) in rotated.items():
                namespace.apply_rotary_pos_emb = function  # type: ignore[attr-defined]  # as above


def _norm_epsilon(module: nn.Module) -> float | None:
    for name in ("variance_epsilon", "eps", "epsilon"):
        value = getattr(module, name, None)
        if isinstance(value, float):
            return value
    return None


def _rms_norm(module: nn.Module) -> Callable[[Tensor], Tensor] | None:
    """RMSNormalization as a replacement for the module, or None if it computes something else."""
    weight, epsilon = getattr(module, "weight", None), _norm_epsilon(module)
    if "RMSNorm" not in type(module).__name__ or not isinstance(weight, Tensor) or weight.ndim != 1 or epsilon is None:
        return None
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, weight.shape[0], generator=generator).to(weight.dtype)
    tolerance = 1e-5 if weight.dtype is torch.float32 else 3e-2
    try:
        with torch.no_grad():
            found = module(x).float()
    except Exception:  # noqa: BLE001  # an unknown module may raise anything; it is then no match
        return None
    for offset in (0.0, 1.0):  # Gemma stores the weight minus one
        expected = torch.rms_norm(x.float(), (weight.shape[0],), weight.float() + offset, epsilon)
        if found.shape == expected.shape and torch.allclose(found, expected, rtol=tolerance, atol=tolerance):
            return _normalization(weight, offset, epsilon)
    return None


def _normalization(weight: Tensor, offset: float, epsilon: float) -> Callable[[Tensor], Tensor]:
    attributes = {"epsilon": epsilon, "axis": -1}
    if not offset:
        return lambda x: symbolic("RMSNormalization", [x, weight], attributes, x)
    scale = nn.Parameter(weight.detach().float() + offset, requires_grad=False)  # half precision would round the sum

    def forward(x: Tensor) -> Tensor:
        wide = x.float()
        return symbolic("RMSNormalization", [wide, scale], attributes, wide).to(x.dtype)

    return forward


def rotary_form(function: _Rotate) -> RotaryForm | None:
    """The form of a function `(query, key, cos, sin)`, or None if it rotates in no known way."""
    return next((form for form in _FORMS if _has_form(function, form)), None)


def _has_form(function: _Rotate, form: RotaryForm) -> bool:
    generator = torch.Generator().manual_seed(0)
    query, key = torch.randn(2, 1, 2, 3, 12 if form.partial else 8, generator=generator)
    angle = torch.randn(1, 3, 4, generator=generator)
    cos, sin = form.repeated(angle.cos()), form.repeated(angle.sin())
    try:
        found = function(query, key, cos, sin)
        matches = [
            torch.allclose(got, form.rotate(given, cos, sin), atol=1e-6)
            for got, given in zip(found, (query, key), strict=True)
        ]
    except Exception:  # noqa: BLE001  # as above
        return False
    return all(matches)


def _rotation(function: _Rotate, form: RotaryForm) -> _Rotate:
    """RotaryEmbedding as a replacement for the function, for calls of the kind that was probed."""

    def rotate(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, *args: Any, **kwargs: Any) -> Any:
        plain = not args and not {name: value for name, value in kwargs.items() if value is not None}
        fits = all(
            x.ndim == 4 and cos.ndim == 3 and cos.shape[0] == x.shape[0] and cos.shape[1] == x.shape[2]
            for x in (query, key)
        )
        whole = all(
            cos.shape[-1] == x.shape[-1] or (form.partial and cos.shape[-1] < x.shape[-1]) for x in (query, key)
        )
        if not (plain and fits and whole):
            return function(query, key, cos, sin, *args, **kwargs)
        return form.rotate(query, cos, sin), form.rotate(key, cos, sin)

    return rotate
