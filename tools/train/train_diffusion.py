"""Train a small masked- or block-diffusion model on stories.

    python tools/train/train_diffusion.py start stories.jsonl --block-length 8 --output model

Without blocks, every position sees every other, and the row before a position predicts it, as in the causal model that
training starts from (LLaDA, arXiv 2502.09992, algorithm 1; the shift as in Dream, arXiv 2508.15487). With blocks
(BD3-LM, arXiv 2503.09573, section 3), a row of training holds a story twice: masked, where a block sees itself and the
clean blocks before it, and clean, where a block sees itself and those before it. Every story is masked twice, the
second time where the first had no mask (complementary masks: Fast-dLLM v2, arXiv 2509.26328). The folder written has
the layout of dllm's a2d models: a Llama, whose config.json says how it attends.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from number_type import product_type
from optimizers import Optimizers, rate_at
from torch import Tensor, nn
from transformers import AutoTokenizer, LlamaForCausalLM

_LENGTH = 192  # tokens of a row
_HELD_OUT = 64  # rows
_MUON_SCALE = 3.0  # the rate of the layers' matrices, against that of the others
_LARGEST_WEIGHT = 10.0  # of a loss, which is divided by the share of masks
_LEVELS = (0.25, 0.5, 0.75, 1.0)  # shares of masks that a training is judged by


class Rows:
    """Stories, one after the other, cut into rows that begin with a story."""

    def __init__(self, tokenizer: Any, path: Path) -> None:
        stories = [json.loads(line)["text"] for line in path.read_text().splitlines()]
        texts = [one.ids for one in tokenizer.backend_tokenizer.encode_batch(stories)]
        self.ids = np.concatenate([np.array(text) for text in texts])
        begins = np.cumsum([0, *map(len, texts)])[:-1]
        self.begins = begins[begins + _LENGTH <= len(self.ids)]
        if len(self.begins) <= 2 * _HELD_OUT:
            sys.exit(f"{path} has {len(texts)} stories, too few: {_HELD_OUT} of them are held out.")
        self.chance = np.random.default_rng(0)

    def held_out(self) -> Tensor:
        """The first rows."""
        return self._rows(self.begins[:_HELD_OUT])

    def batch(self, count: int) -> Tensor:
        """Some of the others."""
        return self._rows(self.chance.choice(self.begins[2 * _HELD_OUT :], count))

    def _rows(self, begins: Any) -> Tensor:
        return torch.from_numpy(np.stack([self.ids[begin : begin + _LENGTH] for begin in begins]))


class Diffusion:
    """A language model as a denoiser."""

    def __init__(self, model: Any, mask_token_id: int, block_length: int) -> None:
        self.model = model
        self.mask_token_id = mask_token_id
        self.block_length = block_length
        length, block = _LENGTH, torch.arange(_LENGTH) // max(block_length, 1)
        if block_length == 0:
            self.positions = torch.arange(length)[None]
            self.mask = torch.ones(1, 1, length, length, dtype=torch.bool)
            return
        self.positions = torch.arange(length).repeat(2)[None]
        own, before = block[:, None] == block, block[:, None] > block
        noisy = torch.cat([own, before], dim=1)
        clean = torch.cat([torch.zeros_like(own), own | before], dim=1)
        self.mask = torch.cat([noisy, clean])[None, None]

    def losses(self, ids: Tensor, masked: Tensor) -> Tensor:
        """Of every masked position, one after the other."""
        noisy = ids.masked_fill(masked, self.mask_token_id)
        rows = noisy if self.block_length == 0 else torch.cat([noisy, ids], dim=1)
        states = self.model.model(
            input_ids=rows,
            attention_mask=self.mask.expand(len(rows), -1, -1, -1),
            position_ids=self.positions.expand(len(rows), -1),
            use_cache=False,
        ).last_hidden_state
        states = states[:, : ids.shape[1]]
        if self.block_length == 0:
            states = torch.cat([states[:, :1], states[:, :-1]], dim=1)  # the row before predicts
        logits = self.model.lm_head(states[masked]).float()
        logits[:, self.mask_token_id] = -torch.inf
        return nn.functional.cross_entropy(logits, ids[masked], reduction="none")

    def masks(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """Random masks, and the share of each row or block that is to be masked; a story's begin is given."""
        rows, length = ids.shape
        size = self.block_length or length
        # Shares are spread evenly over a batch, which makes its loss less noisy.
        count = rows * math.ceil(length / size)
        share = (torch.randperm(count) + torch.rand(count)) / count
        share = share.view(rows, -1).repeat_interleave(size, dim=1)[:, :length].clamp(1e-3, 1)
        masked = torch.rand(rows, length) < share
        masked[:, 0] = False
        return masked, share


def evaluate(diffusion: Diffusion, ids: Tensor) -> dict[str, float]:
    """Mean loss of held-out rows by the share of masks."""
    chance = torch.Generator().manual_seed(0)
    found = {}
    with torch.no_grad():
        for level in _LEVELS:
            masked = torch.rand(ids.shape, generator=chance) < level
            masked[:, 0] = False
            found[str(level)] = round(float(diffusion.losses(ids, masked).mean()), 4)
    return found


def save(diffusion: Diffusion, tokenizer: Any, folder: Path) -> None:
    """Write the model in float16, with what says how it attends."""
    tensors = diffusion.model.state_dict()
    del tensors["lm_head.weight"]  # the embedding's
    diffusion.model.save_pretrained(folder, state_dict={name: one.half() for name, one in tensors.items()})
    tokenizer.save_pretrained(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    blocks = diffusion.block_length
    config["model_type"] = "a2d-llama"
    config["dtype"] = "float16"
    config["mask_token_id"] = diffusion.mask_token_id
    config["ptgc_diffusion"] = {
        "attention": "block" if blocks else "bidirectional",
        "shift": blocks == 0,
        "block_length": blocks,
    }
    path.write_text(json.dumps(config, indent=2) + "\n")


def train(diffusion: Diffusion, rows: Rows, tokenizer: Any, options: argparse.Namespace) -> None:
    """Minimise the loss at masks until the time is over."""
    named = list(diffusion.model.named_parameters())
    matrices = [one for name, one in named if one.ndim == 2 and "embed" not in name]
    others = [one for name, one in named if one.ndim != 2 or "embed" in name]
    optimizers = Optimizers(matrices, others, _MUON_SCALE)
    held_out, begun, step = rows.held_out(), time.process_time(), 0
    while True:
        spent = (time.process_time() - begun) / 60
        share = spent / options.minutes
        if step % options.every == 0 or share >= 1:
            print(
                json.dumps({"step": step, "minutes": round(spent, 1), "loss": evaluate(diffusion, held_out)}),
                flush=True,
            )
            save(diffusion, tokenizer, options.output)
        if share >= 1:
            return
        ids = rows.batch(options.rows)
        masked, shares = diffusion.masks(ids)
        if options.block_length:  # every position is masked once
            ids, other = torch.cat([ids, ids]), ~masked
            other[:, 0] = False
            masked, shares = torch.cat([masked, other]), torch.cat([shares, 1 - shares])
        with torch.autocast("cpu", torch.bfloat16, enabled=product_type() == torch.bfloat16):
            losses = diffusion.losses(ids, masked)
        weights = torch.ones_like(losses) if options.block_length else (1 / shares[masked]).clamp(max=_LARGEST_WEIGHT)
        optimizers.step((losses * weights).sum() / ids.numel(), rate_at(options.rate, step, share))
        step += 1


def main() -> int:
    """Train and write; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("start", type=Path, help="what cut_vocabulary.py wrote, or an earlier training")
    parser.add_argument("stories", type=Path, help="what write_stories.py wrote")
    parser.add_argument("--block-length", type=int, default=0, help="0: no blocks")
    parser.add_argument("--minutes", type=float, default=60, help="processor time")
    parser.add_argument("--rows", type=int, default=16, help="of a batch")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--every", type=int, default=200, help="steps between two evaluations, after which it is saved")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(options.start)
    model = LlamaForCausalLM.from_pretrained(options.start, dtype=torch.float32)
    train(
        Diffusion(model, tokenizer.mask_token_id, options.block_length),
        Rows(tokenizer, options.stories),
        tokenizer,
        options,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
