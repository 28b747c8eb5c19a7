"""Train Medusa heads on texts of their target (Cai et al., arXiv 2401.10774, section 2.2.1).

    python tools/train/train_medusa.py CHECKPOINT texts --output heads

The target is not trained (Medusa-1). The heads have residual blocks of their own and share the target's matrix of
logits, of which they use the rows of the most frequent tokens. The output folder has the keys of FasterDecoding/Medusa
without matrices of logits, in float16.
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

from ptgc.exporters.modules.medusa import MedusaHeads


class MedusaDrafting:
    """Medusa heads over whole texts."""

    def __init__(self, heads: MedusaHeads, ids: Tensor, num_layers: int, target: str) -> None:
        self.heads = heads
        self.ids = ids  # [draft_vocab], of the drafted tokens
        self.num_layers = num_layers
        self.target = target

    def depths(self, batch: Batch, wanted: Tensor) -> Iterator[Depth]:
        """From the state of token t, whose own head gives token t + 1, head d gives token t + 2 + d."""
        for depth, block in enumerate(self.heads.blocks):
            last = batch.last[:, : -2 - depth]
            if last.shape[1] == 0:
                return
            assert self.heads.lm_head is not None
            yield Depth(
                self.heads.lm_head(block(last)),
                wanted[:, 1 + depth : -1],
                batch.ids[:, 2 + depth :],
                batch.counts[:, 2 + depth :],
            )

    def parameters(self) -> Iterator[nn.Parameter]:
        """The residual blocks."""
        return self.heads.blocks.parameters()

    def save(self, folder: Path) -> None:
        """Write weights and configuration."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            name.removeprefix("blocks."): one.detach().half().contiguous()
            for name, one in self.heads.state_dict().items()
            if name.startswith("blocks.")
        }
        tensors["d2t"] = self.ids - torch.arange(len(self.ids))
        save_file(tensors, folder / "model.safetensors")
        config = {
            "base_model_name_or_path": self.target,
            "medusa_num_heads": len(self.heads.blocks),
            "medusa_num_layers": self.num_layers,
        }
        (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def main() -> int:
    """Train and write; the exit status."""
    parser = options_parser(__doc__)
    parser.add_argument("--blocks", type=int, default=3, help="residual blocks of a head")
    options = parser.parse_args()
    target = open_target(options.checkpoint)
    text = target.config
    texts = Texts(options.texts, options.held_out, text.hidden_size)
    ids = texts.frequent(text.vocab_size, options.draft_vocab_size)
    rows = nn.Linear(text.hidden_size, len(ids), bias=False)
    rows.weight = nn.Parameter(target.lm_head.weight[ids], requires_grad=False)
    heads = MedusaHeads(text.hidden_size, 0, options.depth, options.blocks, lm_head=rows, drafted_ids=ids.tolist())
    for block in heads.blocks.modules():
        if isinstance(block, nn.Linear):  # a head begins as the target's own
            nn.init.zeros_(block.weight)
            nn.init.zeros_(block.bias)
    train(MedusaDrafting(heads, ids, options.blocks, options.checkpoint.name), texts, rows.weight, ids, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
