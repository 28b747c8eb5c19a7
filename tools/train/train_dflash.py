"""Train a DFlash drafter on texts of its target (arXiv 2602.06036, section 4).

    python tools/train/train_dflash.py CHECKPOINT texts --output drafter

Blocks are drafted at random places of every text at once. A block is the token at its place followed by mask tokens; it
sees the target's states of the tokens before it. The drafter shares the target's embedding, and the rows of its matrix
of logits for the most frequent tokens. The output folder has the layout of z-lab, in float16.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from drafter_training import Batch, Depth, Texts, open_target, options_parser, train
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import Qwen3Config

from ptgc.exporters.modules.dflash import DFlashDrafter, StateProjection, anchored_blocks
from ptgc.exporters.modules.tap import Tap

_PLACES = {"tap.project.": "", "model.layers.": "layers.", "model.norm.": "norm."}


class DFlashDrafting:
    """A DFlash drafter over whole texts."""

    def __init__(
        self, drafter: DFlashDrafter, ids: Tensor, num_target_layers: int, block_size: int, num_blocks: int, mask: int
    ) -> None:
        self.drafter = drafter
        self.ids = ids  # [draft_vocab], of the drafted tokens
        self.num_target_layers = num_target_layers
        self.block_size = block_size
        self.num_blocks = num_blocks  # of a text
        self.mask = mask
        self.chance = torch.Generator().manual_seed(1)

    def depths(self, batch: Batch, wanted: Tensor) -> Iterator[Depth]:
        """Blocks whose first draft is a token that counts."""
        length = batch.ids.shape[1]
        weights = batch.counts[:, 1:].float() + 1e-9
        anchors = torch.multinomial(weights, self.num_blocks, replacement=True, generator=self.chance)
        states = self.drafter.tap.project(batch.tapped)
        rows = anchored_blocks(batch.ids, states, anchors, self.block_size, self.mask)
        made = self.drafter.model(**rows, use_cache=False).last_hidden_state[:, length:]
        made = made.unflatten(1, (self.num_blocks, self.block_size))
        for depth in range(1, self.block_size):
            at = (anchors + depth).clamp(max=length - 1)
            before = (at - 1)[..., None].expand(-1, -1, wanted.shape[-1])
            yield Depth(
                self.drafter.lm_head(made[:, :, depth]),
                wanted.gather(1, before),
                batch.ids.gather(1, at),
                batch.counts.gather(1, at) & (anchors + depth < length),
            )

    def parameters(self) -> Iterator[nn.Parameter]:
        """All but what is the target's."""
        return (one for one in self.drafter.parameters() if one.requires_grad)

    def save(self, folder: Path) -> None:
        """Write weights and configuration."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {}
        for name, one in self.drafter.state_dict().items():
            for prefix, place in _PLACES.items():
                if name.startswith(prefix):
                    tensors[place + name.removeprefix(prefix)] = one.detach().half().contiguous()
        tensors["d2t"] = self.ids - torch.arange(len(self.ids))
        save_file(tensors, folder / "model.safetensors")
        config = self.drafter.config.to_diff_dict() | {
            "architectures": ["DFlashDraftModel"],
            "block_size": self.block_size,
            "num_target_layers": self.num_target_layers,
            "dflash_config": {
                "mask_token_id": self.mask,
                "target_layer_ids": [layer - 1 for layer in self.drafter.tap.layers],
            },
        }
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def main() -> int:
    """Train and write; the exit status."""
    parser = options_parser(__doc__)
    parser.add_argument("--num-layers", type=int, default=2)
    parser.add_argument("--intermediate-size", type=int, default=1408)
    parser.add_argument("--num-blocks", type=int, default=24, help="blocks of a text in each batch")
    parser.add_argument("--mask-token-id", type=int, required=True, help="a token that texts do not have")
    parser.set_defaults(depth=7)
    options = parser.parse_args()
    target = open_target(options.checkpoint)
    text = target.config
    texts = Texts(options.texts, options.held_out, text.hidden_size)
    ids = texts.frequent(text.vocab_size, options.draft_vocab_size)
    config = Qwen3Config(
        vocab_size=text.vocab_size,
        hidden_size=text.hidden_size,
        intermediate_size=options.intermediate_size,
        num_hidden_layers=options.num_layers,
        num_attention_heads=text.num_attention_heads,
        num_key_value_heads=text.num_key_value_heads,
        head_dim=text.hidden_size // text.num_attention_heads,
        max_position_embeddings=text.max_position_embeddings,
        rms_norm_eps=text.rms_norm_eps,
        rope_parameters=text.rope_parameters,
    )
    project = StateProjection(len(texts.layers) * text.hidden_size, text.hidden_size, text.rms_norm_eps)
    rows = nn.Linear(text.hidden_size, len(ids), bias=False)
    rows.weight = nn.Parameter(target.lm_head.weight[ids], requires_grad=False)
    drafter = DFlashDrafter(config, Tap(texts.layers, project), target.model.embed_tokens, rows, ids.tolist())
    with torch.no_grad():
        drafter.model.norm.weight.copy_(target.model.norm.weight)
    drafting = DFlashDrafting(
        drafter, ids, text.num_hidden_layers, options.depth + 1, options.num_blocks, options.mask_token_id
    )
    train(drafting, texts, rows.weight, ids, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
