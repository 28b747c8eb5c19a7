"""Tiny checkpoints of MDLM, BD3-LM and SEDD under their published names, and their layers in plain PyTorch."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.diffusion_models import CONTEXT, MASK, VOCAB

WIDTH, INNER, HEADS, LAYERS, COND = 32, 128, 4, 2, 24
EPSILON = 1e-3  # of the log-linear noise

_SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "model_length": CONTEXT,
    "hidden_dim": WIDTH,
    "cond_dim": COND,
    "n_blocks": LAYERS,
    "n_heads": HEADS,
    "dropout": 0.1,
    "return_dict": False,
    "torch_dtype": "float32",
}
_MDLM: dict[str, Any] = {
    **_SIZES,
    "model_type": "mdlm",
    "architectures": ["MDLM"],
    "auto_map": {"AutoConfig": "configuration_mdlm.MDLMConfig", "AutoModelForMaskedLM": "modeling_mdlm.MDLM"},
    "time_conditioning": False,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "mdlm": _MDLM,
    "mdlm-time": {**_MDLM, "time_conditioning": True},
    "bd3lm": {
        **_SIZES,
        "model_type": "bd3lm",
        "architectures": ["BD3LM"],
        "auto_map": {"AutoConfig": "configuration_bd3lm.BD3LMConfig", "AutoModelForMaskedLM": "modeling_bd3lm.BD3LM"},
        "adaln": True,
        "attn_backend": "flex",
        "block_size": 4,
        "causal": False,
        "cross_attn": True,
        "sampling_eps_max": 0.999,
        "sampling_eps_min": 0.001,
        "time_conditioning": False,
        "var_min": True,
    },
    "sedd": {
        "graph": {"file": "data", "report_all": False, "type": "absorb"},
        "model": {
            "cond_dim": COND,
            "dropout": 0.1,
            "hidden_size": WIDTH,
            "length": CONTEXT,
            "n_blocks": LAYERS,
            "n_heads": HEADS,
            "name": "small",
            "scale_by_sigma": True,
            "type": "ddit",
        },
        "ngpus": 8,
        "noise": {"sigma_max": 20, "sigma_min": 0.0001, "type": "loglinear"},
        "tokens": VOCAB - 1,
    },
}


class PlainDit:
    """A DiT of one of the formats, computed from its published tensors."""

    def __init__(self, name: str) -> None:
        self.config = CONFIGS[name]
        self.is_sedd = "tokens" in self.config
        self.reads_time = self.is_sedd or bool(self.config["time_conditioning"])
        self.prefix = "" if self.is_sedd else "backbone."
        self._random = torch.Generator().manual_seed(11)
        shapes = {"vocab_embed.embedding": (VOCAB, WIDTH), **_linear("output_layer.linear", VOCAB, WIDTH)}
        shapes |= _linear("output_layer.adaLN_modulation", 2 * WIDTH, COND)
        shapes |= _linear("sigma_map.mlp.0", COND, 256) | _linear("sigma_map.mlp.2", COND, COND)
        for layer in range(LAYERS):
            block = f"blocks.{layer}."
            shapes |= {f"{block}attn_qkv.weight": (3 * WIDTH, WIDTH), f"{block}attn_out.weight": (WIDTH, WIDTH)}
            shapes |= _linear(f"{block}mlp.0", INNER, WIDTH) | _linear(f"{block}mlp.2", WIDTH, INNER)
            shapes |= _linear(f"{block}adaLN_modulation", 6 * WIDTH, COND)
        head = self.prefix + "output_layer.linear.weight"
        norms = ["output_layer.norm_final", *(f"blocks.{n}.norm{k}" for n in range(LAYERS) for k in (1, 2))]
        self.tensors = {self.prefix + path: _size_of(path) * self._numbers(*shape) for path, shape in shapes.items()}
        self.tensors[head] *= 2 / self.tensors[head].norm(dim=1, keepdim=True)  # no token is likelier by its length
        self.tensors |= {f"{self.prefix}{path}.weight": 1 + 0.1 * self._numbers(WIDTH) for path in norms}
        self.tensors[f"{self.prefix}rotary_emb.inv_freq"] = _inverse_frequencies()
        if "var_min" in self.config:
            self.tensors |= {name: torch.tensor(self.config[name]) for name in ("sampling_eps_min", "sampling_eps_max")}

    def write(self, folder: Path, **settings: Any) -> Path:
        """A directory with config.json, some of its settings changed, and the weights."""
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps(self.config | settings))
        save_file(self.tensors, folder / "model.safetensors")
        return folder

    def __call__(self, ids: Tensor, sees: Tensor, time: float = 1.0) -> Tensor:
        """What its sampler reads, `[length, vocab]`: logits, or SEDD's logarithms of scores.

        Args:
            ids: A text, `[length]`.
            sees: Position i sees position j if `sees[i, j]`.
            time: Of the sampler, from 1 to 0.
        """
        sigma = -math.log1p(-(1 - EPSILON) * time) if self.reads_time else 0.0
        logits = self.logits(ids, sees, sigma)
        if not self.is_sedd:
            return logits
        scores = logits - math.log(math.expm1(sigma)) - math.log(VOCAB - 1)
        return scores.scatter(1, ids[:, None], 0.0)

    def logits(self, ids: Tensor, sees: Tensor, sigma: float) -> Tensor:
        """The output of the last layer."""
        c = self._condition(sigma)
        x = self._of("vocab_embed.embedding")[ids]
        for layer in range(LAYERS):
            block = f"blocks.{layer}."
            shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = self._apply(f"{block}adaLN_modulation", c).chunk(6)
            h = self._normed(x, f"{block}norm1") * (1 + scale) + shift
            x = x + gate * self._attend(h, block, sees)
            h = self._normed(x, f"{block}norm2") * (1 + mlp_scale) + mlp_shift
            h = nn.functional.gelu(self._apply(f"{block}mlp.0", h), approximate="tanh")
            x = x + mlp_gate * self._apply(f"{block}mlp.2", h)
        shift, scale = self._apply("output_layer.adaLN_modulation", c).chunk(2)
        return self._apply("output_layer.linear", self._normed(x, "output_layer.norm_final") * (1 + scale) + shift)

    def _condition(self, sigma: float) -> Tensor:
        frequencies = torch.exp(-math.log(10000) * torch.arange(128) / 128)
        waves = torch.cat([(sigma * frequencies).cos(), (sigma * frequencies).sin()])
        silu = nn.functional.silu
        return silu(self._apply("sigma_map.mlp.2", silu(self._apply("sigma_map.mlp.0", waves))))

    def _attend(self, x: Tensor, block: str, sees: Tensor) -> Tensor:
        parts = (x @ self._of(f"{block}attn_qkv.weight").T).view(len(x), 3, HEADS, WIDTH // HEADS).permute(1, 2, 0, 3)
        q, k, v = _rotated(parts[0]), _rotated(parts[1]), parts[2]  # [heads, length, head]
        scores = (q @ k.transpose(1, 2) / (WIDTH // HEADS) ** 0.5).masked_fill(~sees, -torch.inf)
        return (scores.softmax(-1) @ v).transpose(0, 1).flatten(1) @ self._of(f"{block}attn_out.weight").T

    def _normed(self, x: Tensor, path: str) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred * (centred.pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt() * self._of(f"{path}.weight")

    def _apply(self, path: str, x: Tensor) -> Tensor:
        return x @ self._of(f"{path}.weight").T + self._of(f"{path}.bias")

    def _of(self, path: str) -> Tensor:
        return self.tensors[self.prefix + path]

    def _numbers(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._random)


def _size_of(path: str) -> float:
    """Such that texts vary, and no two positions are equally likely but for rounding."""
    if path.endswith("bias") or path == "output_layer.adaLN_modulation.weight":
        return 0.05
    return {"attn_out.weight": 1.0, "vocab_embed.embedding": 0.6}.get(
        path.split(".", 2)[-1] if "blocks" in path else path, 0.3
    )


def _linear(path: str, rows: int, columns: int) -> dict[str, tuple[int, ...]]:
    return {f"{path}.weight": (rows, columns), f"{path}.bias": (rows,)}


def _inverse_frequencies() -> Tensor:
    head = WIDTH // HEADS
    return 1 / 10000 ** (torch.arange(0, head, 2) / head)


def _rotated(x: Tensor) -> Tensor:
    """Rotary positions of the two halves of each head, `[heads, length, head]`."""
    angles = torch.arange(x.shape[1])[:, None] * _inverse_frequencies()
    first, second = x.chunk(2, -1)
    return torch.cat([first * angles.cos() - second * angles.sin(), second * angles.cos() + first * angles.sin()], -1)


assert MASK == VOCAB - 1, "the mask is the last token"
