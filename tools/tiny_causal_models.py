"""A tiny model of every causal LM class of transformers, made from its configuration with small sizes."""

from __future__ import annotations

from typing import Any

import torch
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedConfig

_SIZES: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "sliding_window": 5,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    # The same under other names.
    "n_embd": 64,
    "n_layer": 4,
    "n_head": 4,
    "n_positions": 256,
    "n_ctx": 256,
    "d_model": 64,
    "n_heads": 4,
    "n_layers": 4,
    "num_layers": 4,
    "num_heads": 4,
    "decoder_layers": 4,
    "encoder_layers": 4,
    "decoder_attention_heads": 4,
    "encoder_attention_heads": 4,
    "decoder_ffn_dim": 96,
    "encoder_ffn_dim": 96,
    "ffn_dim": 96,
    "d_inner": 96,
    "dim_ff": 96,
    "dff": 96,
    "max_seq_len": 256,
    # Mixtures of experts.
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_k": 2,
    "moe_topk": 2,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "expert_ffn_hidden_size": 32,
    "n_group": 1,
    "topk_group": 1,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
    # Latent attention.
    "q_lora_rank": 32,
    "kv_lora_rank": 16,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    # Encoders that can be decoders.
    "is_decoder": True,
    "word_embed_proj_dim": 64,
    "embedding_size": 64,
    "rotary_dim": 8,
    "ffn_hidden_size": 96,
    "indexer_head_dim": 16,
    "index_head_dim": 16,
    "index_n_heads": 4,
    "index_topk": 8,
}
_ROPE = {"rope_type": "default", "rope_theta": 10000.0}
# Settings for families where these sizes alone are inconsistent, or that a small model would otherwise lack.
_OVERRIDES: dict[str, dict[str, Any]] = {
    "blt": {"cross_attn_k": 2, "encoder_hash_byte_group_size": [3], "encoder_hash_byte_group_vocab": 128},
    "cohere_compass_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "rope_parameters": {"sliding_attention": _ROPE, "full_attention": _ROPE},
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 96},
    },
    "dots1": {"n_shared_experts": 1, "n_routed_experts": 4, "num_experts_per_tok": 2},
    "dots3_note": {"num_key_value_heads": 4, "head_dim": 24, "per_layer_config": {}},
    "dots3_note_text": {"num_key_value_heads": 4, "head_dim": 24, "per_layer_config": {}},
    "gemma3_text": {"num_hidden_layers": 6},
    "gemma3n_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_kv_shared_layers": 2,
        "vocab_size_per_layer_input": 128,
        "hidden_size_per_layer_input": 8,
    },
    "gemma4_assistant": {"text_config": {"hidden_size_per_layer_input": 0, "num_hidden_layers": 4, "vocab_size": 128}},
    "minimax_m3_vl_text": {"layer_types": ["full_attention", "minimax_m3_sparse"] * 2},
    "gemma4_text": {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 128, "num_hidden_layers": 6},
    "gpt_bigcode": {"num_key_value_heads": 1},
    "gpt_neo": {"attention_types": [[["global", "local"], 2]], "window_size": 5, "intermediate_size": 96},
    "hunyuan_v1_dense": {"head_dim": 16},
    "hunyuan_v1_moe": {"head_dim": 16},
    "kimi_linear": {"linear_head_dim": 16, "linear_num_heads": 4},
    "lfm2": {"layer_types": ["conv", "full_attention"] * 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "longcat_flash": {"zero_expert_num": 2},
    "mamba2": {"num_heads": 8, "head_dim": 16, "n_groups": 1, "state_size": 16},
    "ministral": {"head_dim": 16},
    "qwen4_exp_text": {
        "ngram_vocab_size_base": 64,
        "indexer_n_heads": 2,
        "indexer_kv_heads": 1,
        "indexer_head_dim": 16,
        "indexer_budget": 8,
        "indexer_compress_ratio": 2,
        "ple_embed_dim": 16,
    },
    "reformer": {"axial_pos_embds_dim": [16, 48], "axial_pos_shape": [16, 16], "attention_head_size": 16},
    "roc_bert": {"pronunciation_vocab_size": 64, "shape_vocab_size": 64, "max_position_embeddings": 64},
    "xlm": {"emb_dim": 64, "n_words": 128},
    "zamba": {"layer_types": ["mamba", "hybrid"] * 2},
    "zamba2": {"layer_types": ["mamba", "hybrid"] * 2},
    "zaya": {"num_experts_per_tok": 1},
}


_LARGEST = 16_000_000  # parameters


def tiny_causal_model(model_type: str) -> Any:
    """A model of that type in eval mode, with weights large enough that its logits tell tokens apart.

    Raises:
        ValueError: A size of the configuration is missing in the table above, so the model would be large.
    """
    config = tiny_config(CONFIG_MAPPING[model_type])
    model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    if not isinstance(config, model_class.config_class):
        config = config.get_text_config(decoder=True)
    with torch.device("meta"):
        size = sum(parameter.numel() for parameter in model_class(config).parameters())
    if size > _LARGEST:
        raise ValueError(f"{model_class.__name__} has {size} parameters")
    torch.manual_seed(7)
    model = model_class._from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                # Routers that start as zero would leave the choice of experts to the order of ties.
                parameter.mul_(6.0) if parameter.any() else parameter.normal_(std=0.2)
    return model


def tiny_config(config_class: type[PreTrainedConfig]) -> PreTrainedConfig:
    """The class's defaults with small sizes, also in the configurations inside a composite one."""
    defaults = config_class()
    known = defaults.to_dict()
    given = {name: value for name, value in _SIZES.items() if name in known and _replaceable(known[name], value)}
    if "qk_rope_head_dim" in known:  # latent attention: every head has its own key, part of which is rotated
        given["num_key_value_heads"] = given["num_attention_heads"]
        if "head_dim" in known:
            given["head_dim"] = given["qk_rope_head_dim"]
    inner_configs: Any = config_class.sub_configs
    for name in inner_configs:
        inner = getattr(defaults, name, None)
        if isinstance(inner, PreTrainedConfig):
            given[name] = tiny_config(type(inner)).to_dict()
    given |= _OVERRIDES.get(config_class.model_type, {})
    return config_class(**given)


def _replaceable(default: Any, value: Any) -> bool:
    """Whether a default may be replaced; None often means "none" and is kept, except for token ids."""
    return isinstance(default, int) or (default is None and isinstance(value, int) and value in (0, 1, 2))
