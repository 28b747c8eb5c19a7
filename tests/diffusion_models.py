"""Tiny checkpoints of diffusion language models as their authors publish them, and their layers in plain PyTorch."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.runtime import Generator

VOCAB, MASK, EOS, CONTEXT = 64, 63, 62, 96
WIDTH, INNER, HEADS, KV_HEADS, HEAD, LAYERS = 32, 48, 4, 2, 8, 2
EPSILON, THETA = 1e-5, 50000.0

_QWEN: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": WIDTH,
    "intermediate_size": INNER,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "max_position_embeddings": CONTEXT,
    "rms_norm_eps": EPSILON,
    "rope_theta": THETA,
    "rope_scaling": None,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
    "torch_dtype": "float32",
}
_WINDOWS = {"use_sliding_window": False, "sliding_window": None, "max_window_layers": LAYERS}
_NAMES = {
    "embed": "model.embed_tokens",
    "norm": "model.norm",
    "head": "lm_head",
    "layer": "model.layers.{}.",
    **{f"{one}_proj": f"self_attn.{one}_proj" for one in "qkvo"},
    **{f"{one}_norm": f"self_attn.{one}_norm" for one in "qk"},
    **{one: f"mlp.{one}_proj" for one in ("gate", "up", "down")},
    "before_attention": "input_layernorm",
    "before_mlp": "post_attention_layernorm",
}


@dataclass(frozen=True)
class PublicFormat:
    """A format: what its config.json says, the names of its tensors, and which optional ones it has."""

    config: dict[str, Any]
    names: dict[str, str] = field(default_factory=lambda: _NAMES)
    has_bias: bool = False
    has_head_norms: bool = False


FORMATS = {
    "llada": PublicFormat(
        {
            "model_type": "llada",
            "architectures": ["LLaDAModelLM"],
            "auto_map": {
                "AutoConfig": "configuration_llada.LLaDAConfig",
                "AutoModel": "modeling_llada.LLaDAModelLM",
                "AutoModelForCausalLM": "modeling_llada.LLaDAModelLM",
            },
            "activation_type": "silu",
            "alibi": False,
            "attention_layer_norm": False,
            "block_group_size": 1,
            "block_type": "llama",
            "d_model": WIDTH,
            "embedding_size": VOCAB,
            "eos_token_id": EOS,
            "flash_attention": False,
            "include_bias": False,
            "include_qkv_bias": False,
            "input_emb_norm": False,
            "layer_norm_type": "rms",
            "mask_token_id": MASK,
            "max_sequence_length": CONTEXT,
            "mlp_hidden_size": INNER,
            "mlp_ratio": 4,
            "n_heads": HEADS,
            "n_kv_heads": KV_HEADS,
            "n_layers": LAYERS,
            "pad_token_id": EOS,
            "rms_norm_eps": EPSILON,
            "rope": True,
            "rope_full_precision": True,
            "rope_theta": THETA,
            "scale_logits": False,
            "use_cache": False,
            "vocab_size": VOCAB,
            "weight_tying": False,
        },
        {
            "embed": "model.transformer.wte",
            "norm": "model.transformer.ln_f",
            "head": "model.transformer.ff_out",
            "layer": "model.transformer.blocks.{}.",
            "q_proj": "q_proj",
            "k_proj": "k_proj",
            "v_proj": "v_proj",
            "o_proj": "attn_out",
            "gate": "ff_proj",
            "up": "up_proj",
            "down": "ff_out",
            "before_attention": "attn_norm",
            "before_mlp": "ff_norm",
        },
    ),
    "dream": PublicFormat(
        {
            **_QWEN,
            **_WINDOWS,
            "model_type": "Dream",
            "architectures": ["DreamModel"],
            "auto_map": {"AutoConfig": "configuration_dream.DreamConfig", "AutoModel": "modeling_dream.DreamModel"},
            "mask_token_id": MASK,
        },
        has_bias=True,
    ),
    "sdar": PublicFormat(
        {
            **_QWEN,
            **_WINDOWS,
            "model_type": "sdar",
            "architectures": ["SDARForCausalLM"],
            "auto_map": {"AutoModelForCausalLM": "modeling_sdar.SDARForCausalLM"},
            "attention_bias": False,
            "block_size": 4,
            "head_dim": HEAD,
            "mask_token_id": MASK,
        },
        has_head_norms=True,
    ),
    "a2d-llama": PublicFormat({**_QWEN, "model_type": "a2d-llama", "architectures": ["A2DLlamaLMHeadModel"]}),
    "a2d-qwen2": PublicFormat(
        {
            **_QWEN,
            **_WINDOWS,
            "model_type": "a2d-qwen2",
            "architectures": ["A2DQwen2LMHeadModel"],
            "ptgc_diffusion": {"attention": "bidirectional", "shift": True},
        },
        has_bias=True,
    ),
    "a2d-qwen3": PublicFormat(
        {
            **_QWEN,
            **_WINDOWS,
            "model_type": "a2d-qwen3",
            "architectures": ["A2DQwen3LMHeadModel"],
            "head_dim": HEAD,
            "ptgc_diffusion": {"attention": "block", "block_length": 6},
        },
        has_head_norms=True,
    ),
}


class PlainModel:
    """A model of one of the formats, computed from its published tensors."""

    def __init__(self, name: str) -> None:
        self.format = FORMATS[name]
        self._random = torch.Generator().manual_seed(3)
        names = self.format.names
        self.tensors = {
            names["embed"]: self._matrix(VOCAB, WIDTH),
            names["norm"]: self._norm(WIDTH),
            names["head"]: self._matrix(VOCAB, WIDTH),
        }
        wide, narrow = HEADS * HEAD, KV_HEADS * HEAD
        shapes = {"q_proj": (wide, WIDTH), "k_proj": (narrow, WIDTH), "v_proj": (narrow, WIDTH)}
        shapes |= {"o_proj": (WIDTH, wide), "gate": (INNER, WIDTH), "up": (INNER, WIDTH), "down": (WIDTH, INNER)}
        for layer in range(LAYERS):
            prefix = names["layer"].format(layer)
            self.tensors |= {
                prefix + names[part]: self._matrix(*shape)
                * (4 if part in ("q_proj", "k_proj") else 1)  # sharp attention
                for part, shape in shapes.items()
            }
            self.tensors |= {prefix + names[part]: self._norm(WIDTH) for part in ("before_attention", "before_mlp")}
            if self.format.has_head_norms:
                self.tensors |= {prefix + names[part]: self._norm(HEAD) for part in ("q_norm", "k_norm")}
        self.tensors = {f"{path}.weight": tensor for path, tensor in self.tensors.items()}
        for layer in range(LAYERS if self.format.has_bias else 0):
            for part in ("q_proj", "k_proj", "v_proj"):
                path = names["layer"].format(layer) + names[part]
                self.tensors[f"{path}.bias"] = 0.1 * self._matrix(1, shapes[part][0])[0]

    def write(self, folder: Path, **settings: Any) -> Path:
        """A directory with config.json, some of its settings changed, and the weights."""
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(self.format.config | settings))
        save_file(self.tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    def __call__(self, ids: Tensor, sees: Tensor) -> Tensor:
        """Logits `[length, vocab]` of a text, where position i sees position j if `sees[i, j]`."""
        x = self._of("embed")[ids]
        for layer in range(LAYERS):
            x = x + self._attend(layer, self._normed(x, "before_attention", layer), sees)
            h = self._normed(x, "before_mlp", layer)
            gated = nn.functional.silu(h @ self._of("gate", layer).T) * (h @ self._of("up", layer).T)
            x = x + gated @ self._of("down", layer).T
        return self._normed(x, "norm") @ self._of("head").T

    def _attend(self, layer: int, x: Tensor, sees: Tensor) -> Tensor:
        parts = []
        for part, heads in (("q", HEADS), ("k", KV_HEADS), ("v", KV_HEADS)):
            made = x @ self._of(f"{part}_proj", layer).T
            if self.format.has_bias:
                made = made + self._of(f"{part}_proj", layer, "bias")
            made = made.view(len(x), heads, HEAD)
            if part != "v":
                made = self._normed(made, f"{part}_norm", layer) if self.format.has_head_norms else made
                made = _rotated(made)
            parts.append(made.repeat_interleave(HEADS // heads, 1).transpose(0, 1))
        q, k, v = parts  # [heads, length, head]
        scores = (q @ k.transpose(1, 2) / HEAD**0.5).masked_fill(~sees, -torch.inf)
        return (scores.softmax(-1) @ v).transpose(0, 1).flatten(1) @ self._of("o_proj", layer).T

    def _normed(self, x: Tensor, part: str, layer: int | None = None) -> Tensor:
        return x * (x.pow(2).mean(-1, keepdim=True) + EPSILON).rsqrt() * self._of(part, layer)

    def _of(self, part: str, layer: int | None = None, kind: str = "weight") -> Tensor:
        names = self.format.names
        prefix = "" if layer is None else names["layer"].format(layer)
        return self.tensors[f"{prefix}{names[part]}.{kind}"]

    def _matrix(self, *shape: int) -> Tensor:
        return 0.2 * torch.randn(shape, generator=self._random)

    def _norm(self, size: int) -> Tensor:
        return 1 + 0.1 * torch.randn(size, generator=self._random)


def _rotated(x: Tensor) -> Tensor:
    """Rotary positions, of the two halves of each head."""
    angles = torch.arange(len(x))[:, None] / THETA ** (torch.arange(0, HEAD, 2) / HEAD)
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def small_generator(bundle: Path, batch: int, precision: str = "float32") -> Generator:
    """A build of a bundle for short texts, loaded."""
    options = BuildOptions(
        precision=precision,
        batch_size=batch,
        max_length=48,
        stage=Stage.PREPARE,
        build_id=f"{precision}-{batch}",
        replace=True,
    )
    made = build(bundle, options)
    return Generator(made.path.parents[1], build=made.path.name)
