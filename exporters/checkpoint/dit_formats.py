"""The published settings and names of MDLM, BD3-LM and SEDD, whose layers are those of `ptgc.exporters.modules.dit`."""

from __future__ import annotations

from typing import Any

_LAYER = r"^(?:backbone\.)?blocks\.(\d+)\."
RENAMED = {
    r"^(?:backbone\.)?vocab_embed\.embedding$": "model.embed_tokens.weight",
    r"^(?:backbone\.)?sigma_map\.": "sigma_map.",
    r"^(?:backbone\.)?output_layer\.": "output_layer.",
    **{rf"{_LAYER}attn_{part}\.": rf"model.layers.\1.attention.{part}." for part in ("qkv", "out")},
    **{rf"{_LAYER}{part}\.": rf"model.layers.\1.{part}." for part in ("norm1", "norm2", "mlp", "adaLN_modulation")},
}
"""Regular expressions for names of tensors, with their names in `DitForMaskedDiffusion`."""
DEFAULTS: dict[str, Any] = {
    "vocab_size": 50258,
    "model_length": 1024,
    "hidden_dim": 768,
    "cond_dim": 129,
    "n_blocks": 12,
    "n_heads": 12,
    "time_conditioning": False,
}
"""Of MDLM and BD3-LM."""
BLOCK_REQUIRED = {"adaln": True, "causal": False, "cross_attn": True, "time_conditioning": False}
"""Settings of BD3-LM that are read with one value only."""
SEDD_REQUIRED = {"graph.type": "absorb", "model.type": "ddit", "noise.type": "loglinear"}
"""The same of SEDD: other graphs have no mask, and their noise another level at each time."""


def is_sedd(settings: Any) -> bool:
    """Whether a config.json is SEDD's: it names no model type, but the parts of its training."""
    parts = ("graph", "noise", "model")
    return "model_type" not in settings and all(isinstance(settings.get(part), dict) for part in parts)


def dit_of_mdlm(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a DiT in the words of MDLM's and BD3-LM's config.json (`kuleshov-group/mdlm-owt`)."""
    sizes = {name: settings[name] for name in ("vocab_size", "hidden_dim", "cond_dim", "n_blocks", "n_heads")}
    made = _dit(**sizes, length=settings["model_length"], reads_time=settings["time_conditioning"])
    kept = ("mask_token_id", "bos_token_id", "eos_token_id", "pad_token_id", "torch_dtype", "dtype")
    return made | {name: settings[name] for name in kept if settings.get(name) is not None}


def dit_of_sedd(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a DiT in the words of SEDD's config.json (`louaaron/sedd-small`).

    Its scores of a masked position are exp(logits), up to a factor that depends on the noise level only
    (`scale_by_sigma`): normalised over the tokens other than the mask they are the logits' softmax.
    """
    sizes = settings["model"]
    return _dit(
        vocab_size=settings["tokens"] + 1,
        hidden_dim=sizes["hidden_size"],
        cond_dim=sizes["cond_dim"],
        n_blocks=sizes["n_blocks"],
        n_heads=sizes["n_heads"],
        length=sizes["length"],
        reads_time=True,
    )


def _dit(
    *, vocab_size: int, hidden_dim: int, cond_dim: int, n_blocks: int, n_heads: int, length: int, reads_time: bool
) -> dict[str, Any]:
    """The mask is the last token, behind those of the tokenizer."""
    return {
        "vocab_size": vocab_size,
        "hidden_size": hidden_dim,
        "intermediate_size": 4 * hidden_dim,
        "num_hidden_layers": n_blocks,
        "num_attention_heads": n_heads,
        "max_position_embeddings": length,
        "cond_size": cond_dim,
        "reads_time": reads_time,
        "mask_token_id": vocab_size - 1,
        "bos_token_id": None,
        "eos_token_id": None,
    }
