"""Rotary frequencies that depend on the length of the text, fixed for the lengths at which they do not change."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn

_LENGTH_DEPENDENT = ("dynamic", "longrope")


def _rope_types(module: nn.Module) -> dict[str | None, str]:
    """The kinds of frequencies of a rotary embedding, by layer type; the key None stands for all layers."""
    found = getattr(module, "rope_type", None)
    if isinstance(found, str):
        return {None: found}
    return dict(found) if isinstance(found, dict) else {}


def _parameters(config: Any, layer_type: str | None) -> dict[str, Any]:
    parameters = getattr(config, "rope_parameters", None) or {}
    return dict(parameters if layer_type is None else parameters.get(layer_type) or {})


def scaled_length(config: Any) -> int | None:
    """Positions of a text configuration, including rotary scaling; None if the configuration does not say.

    YaRN stretches the trained context by its factor, and configurations state either of the two lengths (vLLM and
    transformers read them so). Long rope uses another set of frequencies beyond the trained context. With any other
    scaling, `max_position_embeddings` is the length after scaling.
    """
    length = getattr(config, "max_position_embeddings", None)
    if not isinstance(length, int):
        return None
    parameters = getattr(config, "rope_parameters", None) or {}
    kinds = [parameters] if "rope_type" in parameters else [kind for kind in parameters.values() if kind]
    for kind in kinds:
        if not isinstance(kind, dict):
            continue
        original, factor = kind.get("original_max_position_embeddings") or length, kind.get("factor") or 1.0
        if kind.get("rope_type") == "yarn":
            length = max(length, int(original * factor))
        elif kind.get("rope_type") == "longrope":
            length = min(length, original)
    return length


def fixed_length(model: nn.Module) -> int | None:
    """Length of a text up to which no rotary frequency changes; None if they never change.

    Dynamic NTK scaling stretches the frequencies once a text is longer than the trained context; long rope switches to
    another set of them. Both then depend on the longest text of a batch, and leave cached keys rotated as before, so no
    single graph is right beyond that length.
    """
    lengths = []
    for module in model.modules():
        for layer_type, rope_type in _rope_types(module).items():
            config = getattr(module, "config", None)
            if rope_type == "longrope":
                lengths.append(int(_parameters(config, layer_type)["original_max_position_embeddings"]))
            elif "dynamic" in rope_type:
                lengths.append(int(module.original_max_seq_len))  # type: ignore[arg-type]  # set by every such module
    return min(lengths, default=None)


@contextlib.contextmanager
def fixed_frequencies(model: nn.Module) -> Iterator[None]:
    """While open, no rotary embedding of the model depends on the length of the text."""
    saved: list[tuple[nn.Module, Any, dict[str, Any]]] = []
    try:
        for module in model.modules():
            types = _rope_types(module)
            changing = [key for key, kind in types.items() if any(name in kind for name in _LENGTH_DEPENDENT)]
            if not changing:
                continue
            buffers = {}
            for layer_type in changing:
                prefix = "" if layer_type is None else f"{layer_type}_"
                buffers[f"{prefix}inv_freq"] = getattr(module, f"{prefix}inv_freq")
                setattr(module, f"{prefix}inv_freq", getattr(module, f"{prefix}original_inv_freq"))
            saved.append((module, module.rope_type, buffers))
            fixed = {key: "default" if key in changing else kind for key, kind in types.items()}
            still: Any = fixed.get(None, fixed)  # one kind, or one for each layer type
            module.rope_type = still
        yield
    finally:
        for module, rope_type, buffers in saved:
            module.rope_type = rope_type
            for name, buffer in buffers.items():
                setattr(module, name, buffer)
