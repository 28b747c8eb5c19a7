"""Tiny layers for multi-token prediction, and checkpoints that carry them by the names of several makers."""

from __future__ import annotations

import copy
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.functional import cross_entropy, linear
from transformers import AutoModelForCausalLM, DeepseekV3Config, Glm4MoeConfig, MellumConfig
from transformers.cache_utils import MtpCache
from transformers.modeling_layers import MtpModel
from transformers.models.llama.modeling_llama import LlamaModel

from ptgc.exporters.modules.mtp import MtpDrafter, MtpLayers
from tests.eagle import learn, llama_layer, normed
from tests.models import VOCAB_SIZE, greedy, prompt, save, tiny_model

Tensors = dict[str, Tensor]
_LENGTHS, _TOKENS = (1, 5, 40), 48
_DEEPSEEK = {"enorm": "embedding_norm", "hnorm": "states_norm", "eh_proj": "fc", "shared_head.norm": "norm"}
_MIMO = {"token_layernorm": "embedding_norm", "hidden_layernorm": "states_norm", "input_proj": "fc"}
NAMES = {
    "deepseek": {f"model.layers.3.{name}": part for name, part in (_DEEPSEEK | {"": "layer"}).items()},
    "qwen": {
        "mtp.pre_fc_norm_embedding": "embedding_norm",
        "mtp.pre_fc_norm_hidden": "states_norm",
        "mtp.fc": "fc",
        "mtp.norm": "norm",
        "mtp.layers.0.": "layer",
    },
    "mimo": {
        f"model.mtp_layers.0.{name}": part for name, part in (_MIMO | {"final_layernorm": "norm", "": "layer"}).items()
    },
    "ernie": {
        "model.mtp_emb_norm.0": "embedding_norm",
        "model.mtp_hidden_norm.0": "states_norm",
        "model.mtp_linear_proj.0": "fc",
        "model.mtp_block.0.": "layer",
    },
}
"""What several makers call the parts, behind three layers of a target."""
MAKERS = {"deepseek_v3": "deepseek", "glm4_moe": "deepseek", "mellum": "qwen"}
"""Of the families of which transformers reads the layer."""


def _untrained(target: Any) -> MtpDrafter:
    config = copy.deepcopy(target.config)
    config.num_hidden_layers = 1
    body = LlamaModel(config)
    body.embed_tokens = target.get_input_embeddings()
    return MtpDrafter(body, target.get_output_embeddings())


@cache
def mtp_drafter() -> MtpDrafter:
    """A layer that has learned some of the tiny llama's texts."""
    target = tiny_model("llama")
    torch.manual_seed(0)
    drafter = _untrained(target)
    learn(target, drafter, 20)  # it learns fast
    return drafter


@cache
@torch.enable_grad()
def mtp_layers() -> MtpLayers:
    """Three layers that have, each for a token further ahead."""
    target = tiny_model("llama")
    torch.manual_seed(0)
    drafter = MtpLayers([_untrained(target) for _ in range(3)])
    kept = {id(one) for one in target.parameters()}
    learned = [one.requires_grad_(True) for one in drafter.parameters() if id(one) not in kept]
    texts = [torch.tensor([[*one, *greedy(target, one, _TOKENS)]]) for one in map(prompt, _LENGTHS)]
    read = [target.model(text).last_hidden_state.detach() for text in texts]
    optimizer = torch.optim.AdamW(learned, lr=3e-3)
    for _ in range(14):
        optimizer.zero_grad()
        for text, given in zip(texts, read, strict=True):
            states = given[:, :-1]
            layer: Any
            for ahead, layer in enumerate(drafter.layers, 1):
                states = states[:, : text.shape[1] - 1 - ahead]
                rows = layer.join(target.get_input_embeddings()(text[:, ahead:-1]), states)
                states = layer.model(inputs_embeds=rows, use_cache=False).last_hidden_state
                cross_entropy(layer.score(states)[0], text[0, ahead + 1 :]).backward(retain_graph=True)
        optimizer.step()
    for one in learned:
        one.requires_grad_(False)
    return drafter.eval()


@torch.no_grad()
def chained_drafts(target: Any, tensors: Tensors, ids: list[int], count: int = 3) -> list[int]:
    """What layers draft behind a text whose last token the target has not read, by DeepSeek's names.

    DeepSeek-V3, arXiv 2412.19437, section 2.2: layer k reads at every token of the text the embedding of the token k
    ahead, and what layer k - 1 made there.
    """
    states = target.model(torch.tensor([ids[:-1]])).last_hidden_state
    ahead, found = list(ids[1:]), list[int]()
    for layer in range(3, 3 + count):
        prefix = f"model.layers.{layer}."
        part = {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}
        embedded = target.get_input_embeddings()(torch.tensor([ahead]))
        pair = torch.cat([normed(embedded, part["enorm.weight"]), normed(states, part["hnorm.weight"])], dim=-1)
        rows = linear(pair, part["eh_proj.weight"])
        made = llama_layer(target, part, rows, normed(rows, part["input_layernorm.weight"]))
        states = normed(made, part["shared_head.norm.weight"])
        found.append(int(target.lm_head(states[0, -1]).argmax()))
        ahead = [*ahead[1:], found[-1]]
    return found


def layers_weights(drafter: MtpLayers, maker: str) -> Tensors:
    """The weights of all layers by the names of a maker."""
    each = (weights(one, maker, number) for number, one in enumerate(drafter.layers))
    return {name: tensor for one in each for name, tensor in one.items()}


def weights(drafter: Any, maker: str, number: int = 0) -> Tensors:
    """The weights of one layer by the names of a maker."""
    modules: dict[str, Any] = {name: getattr(drafter, name) for name in ("fc", "embedding_norm", "states_norm")}
    modules |= {"norm": drafter.model.norm, "layer": drafter.model.layers[0]}
    return named({name: module.state_dict() for name, module in modules.items()}, maker, number)


def named(parts: dict[str, Tensors], maker: str, number: int = 0) -> Tensors:
    """The weights of the parts of a layer by the names of a maker."""
    found = {}
    for prefix, part in NAMES[maker].items():
        prefix = re.sub(r"\d+", lambda first: str(int(first[0]) + number), prefix)
        dot = "" if prefix.endswith(".") else "."
        found |= {f"{prefix}{dot}{name}": one for name, one in parts[part].items()}
    if maker == "mimo":  # its projection reads the state first
        name = f"model.mtp_layers.{number}.input_proj.weight"
        found[name] = torch.cat(found[name].chunk(2, dim=1)[::-1], dim=1)
    return found


def save_with(target: Any, tensors: Tensors, folder: Path, num_layers: int = 1) -> Path:
    """A Hugging Face directory of a target with more tensors beside its own."""
    folder.mkdir()
    save(target, folder)
    file, config = folder / "model.safetensors", folder / "config.json"
    save_file(load_file(file) | {name: one.contiguous() for name, one in tensors.items()}, file, {"format": "pt"})
    settings = json.loads(config.read_text()) | {"num_nextn_predict_layers": num_layers}
    config.write_text(json.dumps(settings))
    return folder


_SHAPE: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 64,
    "intermediate_size": 96,
    "moe_intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_experts_per_tok": 2,
    "max_position_embeddings": 1024,
    "bos_token_id": None,
    "eos_token_id": None,
    "num_mtp_layers": 1,
}
_GROUPS: dict[str, Any] = {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
_HEADS: dict[str, Any] = {"num_key_value_heads": 2, "head_dim": 16}
_LATENT: dict[str, Any] = {"q_lora_rank": 24, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16}
CONFIGS: dict[str, Any] = {
    "deepseek_v3": lambda: DeepseekV3Config(**_SHAPE, **_GROUPS, **_LATENT, num_key_value_heads=4, v_head_dim=16),
    "glm4_moe": lambda: Glm4MoeConfig(**_SHAPE, **_GROUPS, **_HEADS),
    "mellum": lambda: MellumConfig(
        **_SHAPE,
        **_HEADS,
        num_experts=4,
        sliding_window=24,
        layer_types=["full_attention", "sliding_attention", "full_attention"],
    ),
}
"""Families of which transformers reads the layer."""


def family_target(family: str, num_layers: int = 1) -> Any:
    """A tiny target of one of these families, with random weights."""
    torch.manual_seed(11)
    config = CONFIGS[family]()
    config.num_mtp_layers = num_layers
    target: Any = AutoModelForCausalLM.from_config(config).eval()
    target._keys_to_ignore_on_load_unexpected = [
        r"model\.layers\.[345]\.",
        r"^mtp\.",
    ]  # by size, not of the published models
    _widen(target)
    return target


def family_layer(target: Any, count: int = 1) -> MtpModel:
    """Layers for multi-token prediction of a target, by transformers."""
    layer = MtpModel(target, count).eval()
    _widen(layer.layers)
    return layer


@torch.no_grad()
def _widen(module: Any) -> None:
    """Weights with which texts do not repeat themselves."""
    for name, one in module.named_parameters():
        if one.ndim >= 2:
            one.normal_(std=0.16)
        elif "norm" in name:
            one.normal_(mean=1.0, std=0.2)


def family_weights(layer: MtpModel, family: str, number: int = 0) -> Tensors:
    """The weights of one of them as they are published, with a tensor for each expert."""
    one: Any = layer.layers[number]
    modules = {"fc": one.eh_proj, "embedding_norm": one.enorm, "states_norm": one.hnorm, "norm": one.post_norm}
    parts = {name: module.state_dict() for name, module in modules.items()}
    block: Tensors = {}
    for name, tensor in one.mtp_block.state_dict().items():
        if ".experts." not in name:
            block[name] = tensor
            continue
        for place, expert in enumerate(tensor):
            prefix = f"{name.rpartition('.')[0]}.{place}"
            if name.endswith("gate_up_proj"):
                gate, up = expert.chunk(2)
                block |= {f"{prefix}.gate_proj.weight": gate, f"{prefix}.up_proj.weight": up}
            else:
                block[f"{prefix}.down_proj.weight"] = expert
    return named(parts | {"layer": block}, MAKERS[family], number)


@torch.no_grad()
def family_drafts(target: Any, layer: MtpModel, ids: list[int], count: int) -> list[int]:
    """What the layer drafts behind a text whose last token the target has not read, run again for each draft."""
    states = target.model(torch.tensor([ids[:-1]])).last_hidden_state
    tokens = list(ids[1:])
    for _ in range(count):
        positions = torch.arange(1, 1 + len(tokens))[None]
        cache = MtpCache(config=target.config.get_mtp_config())
        made = layer.forward_layer(0, states, positions, cache, input_ids=torch.tensor([tokens]))
        tokens.append(int(layer._project_to_logits(made[:, -1]).argmax()))
        states = torch.cat([states, made[:, -1:]], dim=1)
    return tokens[len(ids) - 1 :]
