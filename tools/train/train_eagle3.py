"""Train an EAGLE-3 drafter on texts of its target (Li et al., arXiv 2503.01840, section 3.2).

    python tools/train/train_eagle3.py CHECKPOINT texts --output drafter

Every text is drafted from all of its positions at once: depth k reads the drafter's own states of depth k - 1 and
predicts the token k + 2 ahead. A position attends to what it would see when drafting: the real states of the text up to
it (the keys of depth 0), and its own chain (one key of each later depth). The drafter learns the target's distribution
over the tokens that it can draft, the most frequent ones. The output folder has the layout of SafeAILab/EAGLE, in
float16.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from drafter_training import Batch, Depth, Texts, open_target, options_parser, train
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from ptgc.exporters.modules.eagle3 import Eagle3Drafter, Eagle3Layer
from ptgc.exporters.modules.tap import Tap


class Eagle3Drafting:
    """An EAGLE-3 drafter over whole texts."""

    def __init__(self, drafter: Eagle3Drafter, ids: Tensor, depth: int) -> None:
        self.drafter = drafter
        self.ids = ids  # [draft_vocab], of the drafted tokens
        self.depth = depth
        self.layer = drafter.model.layers[0]
        assert isinstance(self.layer, Eagle3Layer)

    def depths(self, batch: Batch, wanted: Tensor) -> Iterator[Depth]:
        """Drafts from all positions at once; those of a depth read the drafter's own states of the depth before."""
        states = self.drafter.tap.project(batch.tapped[:, :-2])
        length = states.shape[1]
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for depth in range(min(self.depth, length)):
            # Position t stands for the text up to token t; it drafts token t + depth + 2 from token t + depth + 1.
            read = slice(1 + depth, 1 + length)
            drafted = slice(2 + depth, 2 + length)
            embedded = self.drafter.model.embed_tokens(batch.ids[:, read])
            states = self._layer(embedded, states[:, : length - depth], keys, values, depth)
            logits = self.drafter.lm_head(self.drafter.norm(states))
            yield Depth(logits, wanted[:, read], batch.ids[:, drafted], batch.counts[:, drafted])

    def _layer(self, embedded: Tensor, states: Tensor, keys: list[Tensor], values: list[Tensor], depth: int) -> Tensor:
        layer: Any = self.layer
        attention = layer.self_attn
        pairs = torch.cat([layer.input_layernorm(embedded), layer.hidden_norm(states)], dim=-1)
        texts, positions, _ = pairs.shape
        query, key, value = (
            part(pairs).view(texts, positions, -1, attention.head_dim).transpose(1, 2)
            for part in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        at = torch.arange(positions)[None] + depth
        query, key = apply_rotary_pos_emb(query, key, *self.drafter.model.rotary_emb(pairs, at))
        groups = query.shape[1] // key.shape[1]
        keys.append(key.repeat_interleave(groups, dim=1))
        values.append(value.repeat_interleave(groups, dim=1))
        out = self._attend(query, keys, values)
        states = states + attention.o_proj(out.transpose(1, 2).flatten(2))
        made: Tensor = states + layer.mlp(layer.post_attention_layernorm(states))
        return made

    def _attend(self, query: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
        """A position sees the keys of depth 0 up to itself, and its own of later depths."""
        positions, size = query.shape[2], query.shape[3]
        if len(keys) == 1:
            return scaled_dot_product_attention(query, keys[0], values[0], is_causal=True)
        scores = query @ keys[0][:, :, :positions].transpose(2, 3) / math.sqrt(size)
        hidden = torch.ones(positions, positions, dtype=torch.bool).triu(1)
        scores = scores.masked_fill(hidden, -torch.inf)
        own = [(query * key[:, :, :positions]).sum(-1, keepdim=True) / math.sqrt(size) for key in keys[1:]]
        weights = torch.cat([scores, *own], dim=-1).softmax(-1)
        out = weights[..., :positions] @ values[0][:, :, :positions]
        for index, value in enumerate(values[1:]):
            out = out + weights[..., positions + index : positions + index + 1] * value[:, :, :positions]
        return out

    def parameters(self) -> Iterator[nn.Parameter]:
        """All but the embedding, which is the target's."""
        return (one for one in self.drafter.parameters() if one.requires_grad)

    def save(self, folder: Path) -> None:
        """Write weights and configuration."""
        folder.mkdir(parents=True, exist_ok=True)
        drafter = self.drafter
        tensors = {
            "fc.weight": drafter.tap.project.state_dict()["weight"],
            **{f"midlayer.{name}": one for name, one in drafter.model.layers[0].state_dict().items()},
            "norm.weight": drafter.norm.weight,
            "lm_head.weight": drafter.lm_head.weight,
        }
        tensors = {name: one.detach().half().contiguous() for name, one in tensors.items()}
        tensors["d2t"] = self.ids - torch.arange(len(self.ids))
        tensors["t2d"] = torch.isin(torch.arange(drafter.config.vocab_size), self.ids)
        save_file(tensors, folder / "model.safetensors")
        config = drafter.config.to_diff_dict() | {
            "architectures": ["LlamaForCausalLMEagle3"],
            "draft_vocab_size": len(self.ids),
            "eagle_aux_hidden_state_layer_ids": list(drafter.tap.layers),
        }
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def load_earlier(drafter: Eagle3Drafter, tensors: dict[str, Tensor]) -> None:
    """Take the weights that `save` wrote."""
    drafter.tap.project.load_state_dict({"weight": tensors["fc.weight"]})
    prefix = "midlayer."
    layer = {name.removeprefix(prefix): one for name, one in tensors.items() if name.startswith(prefix)}
    drafter.model.layers[0].load_state_dict(layer)
    with torch.no_grad():
        drafter.norm.weight.copy_(tensors["norm.weight"])
        drafter.lm_head.weight.copy_(tensors["lm_head.weight"])


def main() -> int:
    """Train and write; the exit status."""
    parser = options_parser(__doc__)
    parser.add_argument("--start", type=Path, metavar="FOLDER", help="what an earlier training wrote, to go on from")
    options = parser.parse_args()
    target = open_target(options.checkpoint)
    text = target.config
    texts = Texts(options.texts, options.held_out, text.hidden_size)
    earlier = load_file(options.start / "model.safetensors") if options.start else None
    if earlier is None:
        ids = texts.frequent(text.vocab_size, options.draft_vocab_size)
    else:
        ids = earlier["d2t"] + torch.arange(len(earlier["d2t"]))
    config = LlamaConfig(
        vocab_size=text.vocab_size,
        hidden_size=text.hidden_size,
        intermediate_size=text.intermediate_size,
        num_hidden_layers=1,
        num_attention_heads=text.num_attention_heads,
        num_key_value_heads=text.num_key_value_heads,
        max_position_embeddings=text.max_position_embeddings,
        rms_norm_eps=text.rms_norm_eps,
        rope_parameters=text.rope_parameters,
    )
    project = nn.Linear(len(texts.layers) * text.hidden_size, text.hidden_size, bias=False)
    drafter = Eagle3Drafter(config, Tap(texts.layers, project), ids.tolist())
    head = target.lm_head.weight[ids]
    with torch.no_grad():
        drafter.lm_head.weight.copy_(head)
        drafter.norm.weight.copy_(target.model.norm.weight)
    drafter.requires_grad_(True)
    if earlier is not None:
        load_earlier(drafter, earlier)
    drafter.model.embed_tokens = target.model.embed_tokens
    train(Eagle3Drafting(drafter, ids, options.depth), texts, head, ids, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
