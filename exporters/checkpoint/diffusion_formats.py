"""Public formats of diffusion language models whose code is not in transformers, but whose layers are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from transformers import (
    LlamaForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
    Qwen3ForCausalLM,
    Qwen3MoeForCausalLM,
)

from ptgc.errors import CheckpointError
from ptgc.exporters.checkpoint import dit_formats
from ptgc.exporters.checkpoint.config import foreign_errors
from ptgc.exporters.modules.dit import DitForMaskedDiffusion

Settings = Mapping[str, Any]
"""A config.json."""

OWN_SETTINGS = "ptgc_diffusion"
"""Where the config.json of a model without a convention of its own says how the model attends and predicts."""
_OF_THE_FORMAT = ("model_type", "architectures", "auto_map", "quantization_config", OWN_SETTINGS)


class Attention(str, Enum):
    """Which positions of a canvas a position sees."""

    BIDIRECTIONAL = "bidirectional"
    """All of them."""
    BLOCK = "block"
    """Those of its own block and of the blocks before it."""


@dataclass(frozen=True)
class DiffusionFormat:
    """How a checkpoint becomes a model of transformers, and how it fills masks."""

    model_class: type[PreTrainedModel]
    """The class of transformers that has its layers; what it sees is up to the attention mask."""
    attention: Attention | None
    """What a position sees; None if the format does not say."""
    shift: bool = False
    """Whether a position is predicted by the row before it."""
    mask_token_id: int | None = None
    """The mask token, if the tokenizer names none."""
    block_length: int | None = None
    """Positions of a block that the model was trained with."""
    required: Settings = field(default_factory=dict)
    """The only value with which a setting can be read, for settings that change what the layers compute. A setting of a
    part is named `part.setting`."""
    defaults: Settings = field(default_factory=dict)
    """Values of settings that config.json may leave out."""
    translate: Callable[[dict[str, Any]], dict[str, Any]] = dict
    """Makes the settings of `model_class` from those of the format."""
    renamed: Mapping[str, str] = field(default_factory=dict)
    """Regular expressions for names of tensors, with the names in `model_class`."""
    tokenizer_class: Any = None
    """The tokenizer of transformers, where the format has one of its own with the same vocabulary files."""

    def config(self, source: str, settings: Settings) -> PreTrainedConfig:
        """The configuration of `model_class`.

        Args:
            source: What the user gave, for messages.
            settings: config.json.

        Raises:
            CheckpointError: The checkpoint has parts that the class has not; all of them are named.
        """
        given = {**self.defaults, **settings}
        values = {name: _setting(given, name, only) for name, only in self.required.items()}
        wrong = [
            f"{name} is {values[name]!r}, only {only!r} is read"
            for name, only in self.required.items()
            if values[name] != only
        ]
        if wrong:
            raise CheckpointError(
                f"Cannot open the checkpoint '{source}': a model of type {_type_of(settings)!r} cannot be "
                f"{self.model_class.__name__} with these settings: {'; '.join(wrong)}.",
                "docs/support.md lists what of this format is read.",
            )
        own = {name: value for name, value in given.items() if name not in _OF_THE_FORMAT}
        config_class: Any = self.model_class.config_class
        with foreign_errors(source):
            made: PreTrainedConfig = config_class.from_dict(self.translate(own))
        return made


def diffusion_format(source: str, settings: Settings) -> DiffusionFormat | None:
    """The format of a checkpoint, with what its config.json says of it; None if it is no diffusion model known here.

    Args:
        source: What the user gave, for messages.
        settings: config.json.

    Raises:
        CheckpointError: A value in it is of the wrong kind; all of them are named.
    """
    found = _FORMATS.get(_type_of(settings))
    if found is None:
        return None
    own = settings.get(OWN_SETTINGS, {})
    given = {
        "mask_token_id": settings.get("mask_token_id"),
        "block_length": settings.get("block_size"),
        **(own if isinstance(own, dict) else {"": own}),
    }
    given = {name: value for name, value in given.items() if value is not None}
    wrong = [f"{name or OWN_SETTINGS} is {value!r}" for name, value in given.items() if not _is_valid(name, value)]
    if wrong:
        raise CheckpointError(
            f"Cannot open the checkpoint '{source}': in its config.json, {'; '.join(wrong)}.",
            "mask_token_id is a token, block_size a number of positions; "
            f"{OWN_SETTINGS} may have attention (bidirectional, block), shift (true, false) and block_length.",
        )
    if "attention" in given:
        given["attention"] = Attention(given["attention"])
    if given.get("block_length") == 0:  # it has no blocks
        del given["block_length"]
    return replace(found, **given)


def _type_of(settings: Settings) -> str:
    """The model type, or what stands for it."""
    return _SEDD if dit_formats.is_sedd(settings) else str(settings.get("model_type"))


def _setting(settings: Settings, name: str, default: object) -> object:
    """A setting, or one of a part: `part.setting`."""
    part, dot, inner = name.partition(".")
    if not dot:
        return settings.get(name, default)
    found = settings.get(part)
    return found.get(inner, default) if isinstance(found, dict) else default


def _is_valid(name: str, value: object) -> bool:
    if name == "attention":
        return value in [one.value for one in Attention]
    if name == "shift":
        return isinstance(value, bool)
    return name in ("mask_token_id", "block_length") and type(value) is int and value >= 0


def _llama_of_llada(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a Llama in the words of LLaDA's config.json (`ML-GSAI/LLaDA-8B-Base`)."""
    width, heads = settings["d_model"], settings["n_heads"]
    inner = settings["mlp_hidden_size"]
    kept = ("mask_token_id", "bos_token_id", "eos_token_id", "pad_token_id", "torch_dtype", "dtype")
    return {
        "vocab_size": settings["embedding_size"] or settings["vocab_size"],
        "hidden_size": width,
        "intermediate_size": settings["mlp_ratio"] * width if inner is None else inner,
        "num_hidden_layers": settings["n_layers"],
        "num_attention_heads": heads,
        "num_key_value_heads": settings["n_kv_heads"] or (1 if settings["multi_query_attention"] else heads),
        "max_position_embeddings": settings["max_sequence_length"],
        "rms_norm_eps": settings["rms_norm_eps"],
        "rope_theta": settings["rope_theta"],
        "tie_word_embeddings": settings["weight_tying"],
        **{name: settings[name] for name in kept if name in settings},
    }


_NO_WINDOWS = {"use_sliding_window": False}
_BLOCK = r"model\.transformer\.blocks\.(\d+)\."
_LLADA_LAYER = {
    "q_proj": "self_attn.q_proj",
    "k_proj": "self_attn.k_proj",
    "v_proj": "self_attn.v_proj",
    "attn_out": "self_attn.o_proj",
    "ff_proj": "mlp.gate_proj",
    "up_proj": "mlp.up_proj",
    "ff_out": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ff_norm": "post_attention_layernorm",
}
_LLADA = DiffusionFormat(
    LlamaForCausalLM,
    Attention.BIDIRECTIONAL,
    mask_token_id=126336,
    required={
        "activation_type": "silu",
        "alibi": False,
        "attention_layer_norm": False,
        "block_group_size": 1,
        "block_type": "llama",
        "include_bias": False,
        "include_qkv_bias": False,
        "input_emb_norm": False,
        "layer_norm_type": "rms",
        "layer_norm_with_affine": True,
        "rope": True,
        "scale_logits": False,
    },
    defaults={
        "activation_type": "swiglu",
        "block_type": "sequential",
        "d_model": 768,
        "embedding_size": 50304,
        "layer_norm_type": "default",
        "max_sequence_length": 1024,
        "mlp_hidden_size": None,
        "mlp_ratio": 4,
        "multi_query_attention": None,
        "n_heads": 12,
        "n_kv_heads": None,
        "n_layers": 12,
        "rms_norm_eps": 1e-5,
        "rope": False,
        "rope_theta": 10000.0,
        "vocab_size": 50257,
        "weight_tying": True,
    },
    translate=_llama_of_llada,
    renamed={
        **{rf"^{_BLOCK}{one}\.": rf"model.layers.\1.{other}." for one, other in _LLADA_LAYER.items()},
        r"^model\.transformer\.wte\.": "model.embed_tokens.",
        r"^model\.transformer\.ln_f\.": "model.norm.",
        r"^model\.transformer\.ff_out\.": "lm_head.",
    },
)
_MDLM = DiffusionFormat(
    DitForMaskedDiffusion,
    Attention.BIDIRECTIONAL,
    defaults=dit_formats.DEFAULTS,
    translate=dit_formats.dit_of_mdlm,
    renamed=dit_formats.RENAMED,
)
_SEDD = "sedd"
_SDAR = DiffusionFormat(Qwen3ForCausalLM, Attention.BLOCK, mask_token_id=151669, block_length=4, required=_NO_WINDOWS)
_FORMATS: Mapping[str, DiffusionFormat] = {
    "llada": _LLADA,
    "Dream": DiffusionFormat(
        Qwen2ForCausalLM,
        Attention.BIDIRECTIONAL,
        shift=True,
        mask_token_id=151666,
        required=_NO_WINDOWS,
        tokenizer_class=Qwen2Tokenizer,
    ),
    "sdar": _SDAR,
    "sdar_moe": replace(_SDAR, model_class=Qwen3MoeForCausalLM),
    "mdlm": _MDLM,
    "bd3lm": replace(_MDLM, attention=Attention.BLOCK, block_length=1, required=dit_formats.BLOCK_REQUIRED),
    _SEDD: replace(_MDLM, defaults={}, required=dit_formats.SEDD_REQUIRED, translate=dit_formats.dit_of_sedd),
    "a2d-llama": DiffusionFormat(LlamaForCausalLM, None),
    "a2d-qwen2": DiffusionFormat(Qwen2ForCausalLM, None, required=_NO_WINDOWS),
    "a2d-qwen3": DiffusionFormat(Qwen3ForCausalLM, None, required=_NO_WINDOWS),
}
"""By model type. LLaDA: arXiv 2502.09992; Dream: arXiv 2508.15487; SDAR: arXiv 2510.06303; MDLM:
arXiv 2406.07524; BD3-LM: arXiv 2503.09573; SEDD: arXiv 2310.16834; a2d: models of transformers
that dLLM's trainers turn into diffusion models, masked or in blocks."""
