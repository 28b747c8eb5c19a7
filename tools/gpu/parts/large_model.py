"""A model of a billion parameters, made on the device: its speed is set almost only by reading memory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cuda_driver import require_device
from round_times import measure_build

from parts.base import Figures, Settings, Skipped
from ptgc.compiler.build.build import BuildOptions, build

FLOOR_SHARE = 0.75
"""Share of the bandwidth that plain decoding should reach."""
_PRECISIONS = {"cuda": ("float16", "int4"), "cpu": ("float32", "int4")}
_EXPORT = "export"
_MAX_LENGTH = 1024
_SEED = 17
_SIZES: dict[str, Any] = {
    "vocab_size": 32000,
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 22,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
}
_SMALL_SIZES: dict[str, Any] = {
    "vocab_size": 1024,
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
}


def subjects(settings: Settings) -> Sequence[str]:
    """Making and exporting the model, then every precision, each in its own process."""
    found = _PRECISIONS[settings.device]
    return [_EXPORT, *(found[:1] if settings.small else found)]


def measure(settings: Settings, figures: Figures, subject: str) -> None:
    """Export the model, or build and measure it at one precision."""
    if settings.device == "cuda":
        require_device()
    if subject == _EXPORT:
        _export(settings, figures)
        return
    bundle = large_bundle(settings)
    if not bundle.is_dir():
        raise Skipped("The model was not exported in this run.")
    start = time.perf_counter()
    options = BuildOptions(
        device=settings.device, precision=subject, max_length=_MAX_LENGTH, build_id=build_name(subject), replace=True
    )
    made = build(bundle, options, lambda step: figures.add("steps", step))
    figures.put(build_seconds=round(time.perf_counter() - start, 2))
    found = measure_build(bundle, made.manifest.id, settings, figures)
    figures.put(**found)
    share = found.get("plain", {}).get("floor_share")
    if share is not None:
        figures.put(floor_share=share, floor_share_wanted=FLOOR_SHARE, reached=share >= FLOOR_SHARE)


def large_bundle(settings: Settings) -> Path:
    """Where the model's bundle is, once it is exported."""
    return Path(settings.work) / "large-model"


def build_name(precision: str) -> str:
    """The build of a precision."""
    return f"large-{precision}"


def checkpoint_precision(settings: Settings) -> str:
    """The type of the model's own weights, which is also the precision for the comparison with peers."""
    return _PRECISIONS[settings.device][0]


def make_model(settings: Settings) -> Any:
    """The model on the device, with the same random weights every time on one kind of device."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    sizes = _SMALL_SIZES if settings.small else _SIZES
    config = LlamaConfig(
        **sizes,
        max_position_embeddings=2 * _MAX_LENGTH,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    torch.manual_seed(_SEED)
    with torch.device(settings.device):
        model: Any = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, checkpoint_precision(settings)))
    return model.eval().requires_grad_(False)


def _export(settings: Settings, figures: Figures) -> None:
    from ptgc.exporters import export
    from ptgc.spec.strategies.ngram import ngram

    start = time.perf_counter()
    model = make_model(settings)
    figures.put(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        dtype=checkpoint_precision(settings),
        make_seconds=round(time.perf_counter() - start, 2),
    )
    start = time.perf_counter()

    def note(step: str) -> None:
        figures.add("steps", {"step": step, "begun_at": round(time.perf_counter() - start, 2)})

    export({"target": model.cpu()}, ngram(), large_bundle(settings), force=True, progress=note)
    figures.put(export_seconds=round(time.perf_counter() - start, 2))
