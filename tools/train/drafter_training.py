"""What the training of every drafter shares: texts with their states, the optimiser, and figures on held-out texts."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from number_type import product_type
from optimizers import Optimizers, rate_at
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

MUON_SCALE = 5.0  # the rate of matrices between states, against that of the others
DEPTH_WEIGHT = 0.8  # of a depth's loss against that of the depth before


@dataclass
class Batch:
    """Texts of about the same length, padded."""

    ids: Tensor  # [texts, tokens]
    tapped: Tensor  # [texts, tokens, layers * hidden]
    last: Tensor  # [texts, tokens, hidden], what the head reads
    counts: Tensor  # bool [texts, tokens], whether a token is learnt


@dataclass
class Depth:
    """Drafts of one depth, from many places of the texts at once."""

    logits: Tensor  # [texts, places, draft_vocab]
    wanted: Tensor  # [texts, places, draft_vocab], the target's distribution over the drafted tokens
    ids: Tensor  # [texts, places], the token that the text has there
    counts: Tensor  # bool [texts, places], whether it is learnt


class Drafting(Protocol):
    """A drafter over whole texts."""

    def depths(self, batch: Batch, wanted: Tensor) -> Iterator[Depth]:
        """Its drafts, depth by depth; places are the same ones, of which the last may be missing at deeper depths.

        `wanted` `[texts, tokens, draft_vocab]` is the target's distribution over the drafted tokens behind each token.
        """
        ...

    def parameters(self) -> Iterator[nn.Parameter]:
        """What is trained."""
        ...

    def save(self, folder: Path) -> None:
        """Write the drafter's folder."""


class Texts:
    """What write_texts.py wrote."""

    def __init__(self, folder: Path, held_out: int, hidden_size: int) -> None:
        self.layers: list[int] = json.loads((folder / "layers.json").read_text())
        lines = [json.loads(line) for line in (folder / "texts.jsonl").read_text().splitlines()]
        self.ids = [np.array(line["token_ids"]) for line in lines]
        self.answers = [line["answer"] for line in lines]
        self.begins = np.cumsum([0, *map(len, self.ids)])
        total = int(self.begins[-1])
        file = folder / "states.f16"
        self.states = np.memmap(file, np.float16, "r", shape=(total, len(self.layers) + 1, hidden_size))
        if len(lines) <= held_out:
            sys.exit(f"{folder} has {len(lines)} texts; {held_out} of them are held out, so that none are left.")
        self.test = list(range(held_out))
        self.train = list(range(held_out, len(lines)))

    def batches(self, texts: list[int], tokens: int, seed: int) -> Iterator[Batch]:
        """All of these texts once, in random order."""
        chance = np.random.default_rng(seed)
        groups: list[list[int]] = [[]]
        for text in sorted(texts, key=lambda text: (len(self.ids[text]), chance.random())):
            if groups[-1] and (len(groups[-1]) + 1) * len(self.ids[text]) > tokens:
                groups.append([])
            groups[-1].append(text)
        for index in chance.permutation(len(groups)):
            yield self._batch(groups[index])

    def _batch(self, texts: list[int]) -> Batch:
        longest = max(len(self.ids[text]) for text in texts)
        _, layers, size = self.states.shape
        ids = torch.zeros(len(texts), longest, dtype=torch.long)
        states = torch.zeros(len(texts), longest, layers, size)
        counts = torch.zeros(len(texts), longest, dtype=torch.bool)
        for row, text in enumerate(texts):
            begin, count = self.begins[text], len(self.ids[text])
            ids[row, :count] = torch.from_numpy(self.ids[text])
            states[row, :count] = torch.from_numpy(self.states[begin : begin + count].astype(np.float32))
            counts[row, self.answers[text] : count] = True
        return Batch(ids, states[:, :, :-1].flatten(2), states[:, :, -1], counts)

    def frequent(self, vocab_size: int, count: int) -> Tensor:
        """The ids `[count]`, ascending, that answers have most often."""
        answers = np.concatenate([ids[answer:] for ids, answer in zip(self.ids, self.answers, strict=True)])
        times = np.bincount(answers, minlength=vocab_size)
        found = np.sort(np.argsort(-times, kind="stable")[:count])
        print(f"{len(answers)} tokens of answers; the drafted ones cover {times[found].sum() / times.sum():.4f}")
        return torch.from_numpy(found)


def options_parser(doc: str | None) -> argparse.ArgumentParser:
    """The options that every training has."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="the target")
    parser.add_argument("texts", type=Path, help="what write_texts.py wrote")
    parser.add_argument("--draft-vocab-size", type=int, default=4608)
    parser.add_argument("--depth", type=int, default=4, help="drafts that are trained one after the other")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument(
        "--minutes", type=float, default=60, help="processor time after which training ends, whatever its step"
    )
    parser.add_argument("--tokens", type=int, default=2048, help="of a batch")
    parser.add_argument("--rate", type=float, default=6e-4)
    parser.add_argument("--every", type=int, default=250, help="steps between two evaluations, after which it is saved")
    parser.add_argument("--held-out", type=int, default=64, help="texts that are not trained on")
    parser.add_argument("--output", type=Path, required=True)
    return parser


def open_target(checkpoint: Path) -> Any:
    """The target, which is not trained."""
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval().requires_grad_(False)


def train(drafting: Drafting, texts: Texts, head: Tensor, ids: Tensor, options: argparse.Namespace) -> None:
    """Minimise the cross-entropy with the target's distribution over the drafted tokens, and save.

    Args:
        drafting: The drafter.
        texts: What it learns from.
        head: The target's rows of the drafted tokens `[draft_vocab, hidden]`.
        ids: Of the drafted tokens `[draft_vocab]`.
        options: Of `options_parser`.
    """
    parameters = list(drafting.parameters())
    matrices = [one for one in parameters if one.ndim == 2 and len(ids) not in one.shape]
    others = [one for one in parameters if one.ndim != 2 or len(ids) in one.shape]
    optimizers = Optimizers(matrices, others, MUON_SCALE)
    begun = time.process_time()
    for step, batch in enumerate(_endless(texts, options.tokens)):
        spent = (time.process_time() - begun) / 60
        share = max(step / options.steps, spent / options.minutes)
        if step % options.every == 0 or share >= 1:
            print(
                json.dumps(
                    {
                        "step": step,
                        "minutes": round(spent, 1),
                        "agreement": agreement(drafting, texts, head, ids, options),
                    }
                ),
                flush=True,
            )
            drafting.save(options.output)
        if share >= 1:
            return
        losses = []
        with torch.autocast("cpu", torch.bfloat16, enabled=product_type() == torch.bfloat16):
            wanted = (batch.last @ head.T).softmax(-1)
            for depth, made in enumerate(drafting.depths(batch, wanted)):
                loss = -(made.wanted * made.logits.float().log_softmax(-1)).sum(-1)
                losses.append(DEPTH_WEIGHT**depth * (loss * made.counts).sum() / made.counts.sum().clamp(min=1))
        optimizers.step(torch.stack(losses).sum(), rate_at(options.rate, step, share))
        if step % 50 == 0:
            print(f"step {step} loss {losses[0].item():.3f} {spent:.1f} min", flush=True)


def _endless(texts: Texts, tokens: int) -> Iterator[Batch]:
    epoch = 0
    while True:
        yield from texts.batches(texts.train, tokens, epoch)
        epoch += 1


@torch.no_grad()
def agreement(drafting: Drafting, texts: Texts, head: Tensor, ids: Tensor, options: argparse.Namespace) -> list[float]:
    """By depth, the share of held-out tokens that the drafter finds if it has found those before."""
    right, tried = np.zeros(options.depth), np.zeros(options.depth)
    for batch in texts.batches(texts.test, options.tokens, 0):  # in float32, as drafts are made
        found: Tensor | None = None  # whether everything before was found
        for depth, made in enumerate(drafting.depths(batch, batch.last @ head.T)):
            counts = made.counts if found is None else made.counts & found[:, : made.counts.shape[1]]
            found = counts & (ids[made.logits.argmax(-1)] == made.ids)
            right[depth] += float(found.sum())
            tried[depth] += float(counts.sum())
    return [round(share, 4) for share in (right / np.maximum(tried, 1)).tolist()]
