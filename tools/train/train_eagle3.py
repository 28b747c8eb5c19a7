"""Train an EAGLE-3 drafter on cached states (Li et al., arXiv 2503.01840, section 3.2).

    python tools/train/train_eagle3.py CHECKPOINT states --steps 3000 --output drafter

Every text is drafted from all of its positions at once: turn k reads the drafter's own states of turn k - 1 and
predicts the token k + 2 ahead. A position attends to what it would see when drafting: the real states of the text up to
it (the keys of turn 0), and its own chain (one key of each later turn). The drafter learns the target's distribution
over the tokens that it can draft, the most frequent ones. The output folder has the layout of SafeAILab/EAGLE, in
float16.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoModelForCausalLM, LlamaConfig
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from ptgc.exporters.modules.eagle3 import Eagle3Drafter, Eagle3Layer
from ptgc.exporters.modules.tap import Tap

TURN_WEIGHT = 0.8  # of a turn's loss against that of the turn before


@dataclass
class Batch:
    """Texts of one batch, padded."""

    ids: Tensor  # [texts, tokens]
    tapped: Tensor  # [texts, tokens, layers * hidden]
    last: Tensor  # [texts, tokens, hidden], what the head reads
    counts: Tensor  # bool [texts, tokens], whether a token is learnt


class Texts:
    """What cache_states.py wrote, in batches of texts of about the same length."""

    def __init__(self, folder: Path, held_out: int) -> None:
        self.states = np.load(folder / "states.npy", mmap_mode="r")
        self.ids = np.load(folder / "token_ids.npy")
        self.answers = np.load(folder / "answers.npy")
        ends = np.load(folder / "ends.npy")
        spans = list(zip([0, *ends[:-1]], ends, strict=True))
        chance = np.random.default_rng(0)
        chosen = set(chance.choice(len(spans), held_out, replace=False).tolist())
        self.test = [span for index, span in enumerate(spans) if index in chosen]
        self.train = [span for index, span in enumerate(spans) if index not in chosen]

    def batches(self, spans: list[Any], tokens: int, seed: int) -> Iterator[Batch]:
        """All of them once, in random order."""
        groups: list[list[Any]] = [[]]
        for span in sorted(spans, key=lambda span: span[1] - span[0]):
            if groups[-1] and (len(groups[-1]) + 1) * (span[1] - span[0]) > tokens:
                groups.append([])
            groups[-1].append(span)
        for index in np.random.default_rng(seed).permutation(len(groups)):
            yield self._batch(groups[index])

    def _batch(self, spans: list[Any]) -> Batch:
        longest = max(end - begin for begin, end in spans)
        _, count, size = self.states.shape
        ids = torch.zeros(len(spans), longest, dtype=torch.long)
        states = torch.zeros(len(spans), longest, count, size)
        counts = torch.zeros(len(spans), longest, dtype=torch.bool)
        for row, (begin, end) in enumerate(spans):
            ids[row, : end - begin] = torch.from_numpy(self.ids[begin:end].astype(np.int64))
            states[row, : end - begin] = torch.from_numpy(self.states[begin:end].astype(np.float32))
            counts[row, : end - begin] = torch.from_numpy(self.answers[begin:end])
        return Batch(ids, states[:, :, :-1].flatten(2), states[:, :, -1], counts)


class Drafting:
    """The turns of a drafter over a batch."""

    def __init__(self, drafter: Eagle3Drafter, head: Tensor) -> None:
        self.drafter = drafter
        self.head = head  # [draft_vocab, hidden], the target's rows of the drafted tokens
        self.layer = drafter.model.layers[0]
        assert isinstance(self.layer, Eagle3Layer)

    def turns(self, batch: Batch, count: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Logits of each turn, the target's, and which positions count; each `[texts, positions, ...]`."""
        states = self.drafter.tap.project(batch.tapped[:, :-2])
        length = states.shape[1]
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for turn in range(count):
            positions = length - turn
            if positions < 1:
                return
            # Position t stands for the text up to token t; it drafts token t + turn + 2 from token t + turn + 1.
            embedded = self.drafter.model.embed_tokens(batch.ids[:, 1 + turn : 1 + turn + positions])
            states = self._layer(embedded, states[:, :positions], keys, values, turn)
            logits = self.drafter.lm_head(self.drafter.norm(states))
            wanted = batch.last[:, 1 + turn : 1 + turn + positions] @ self.head.T
            yield logits, wanted, batch.counts[:, 2 + turn : 2 + turn + positions]

    def _layer(self, embedded: Tensor, states: Tensor, keys: list[Tensor], values: list[Tensor], turn: int) -> Tensor:
        layer: Any = self.layer
        attention = layer.self_attn
        pairs = torch.cat([layer.input_layernorm(embedded), layer.hidden_norm(states)], dim=-1)
        texts, positions, _ = pairs.shape
        query, key, value = (
            part(pairs).view(texts, positions, -1, attention.head_dim).transpose(1, 2)
            for part in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        at = torch.arange(positions)[None] + turn
        query, key = apply_rotary_pos_emb(query, key, *self.drafter.model.rotary_emb(pairs, at))
        groups = query.shape[1] // key.shape[1]
        keys.append(key.repeat_interleave(groups, dim=1))
        values.append(value.repeat_interleave(groups, dim=1))
        out = self._attend(query, keys, values)
        states = states + attention.o_proj(out.transpose(1, 2).flatten(2))
        made: Tensor = states + layer.mlp(layer.post_attention_layernorm(states))
        return made

    def _attend(self, query: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
        """A position sees the keys of turn 0 up to itself, and its own of later turns."""
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


def train(drafting: Drafting, texts: Texts, arguments: argparse.Namespace) -> None:
    """Minimise the cross-entropy with the target's distribution over the drafted tokens."""
    parameters = [one for one in drafting.drafter.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=arguments.rate, betas=(0.9, 0.95), weight_decay=0.01)
    step, epoch, begun = 0, 0, time.monotonic()
    while step < arguments.steps and time.monotonic() - begun < arguments.minutes * 60:
        for batch in texts.batches(texts.train, arguments.tokens, epoch):
            rate = min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * step / arguments.steps))
            for group in optimizer.param_groups:
                group["lr"] = max(arguments.rate * rate, arguments.rate * 0.02)
            losses = []
            for turn, (logits, wanted, counts) in enumerate(drafting.turns(batch, arguments.turns)):
                loss = -(wanted.softmax(-1) * logits.log_softmax(-1)).sum(-1)
                losses.append(TURN_WEIGHT**turn * (loss * counts).sum() / counts.sum().clamp(min=1))
            total = torch.stack(losses).sum()
            optimizer.zero_grad()
            total.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            step += 1
            if step % 50 == 0:
                print(
                    f"step {step} epoch {epoch} loss {float(losses[0]):.3f} {time.monotonic() - begun:.0f} s",
                    flush=True,
                )
            if step % arguments.every == 0:
                print(json.dumps({"step": step, "agreement": agreement(drafting, texts, arguments)}), flush=True)
                save(drafting.drafter, arguments)
            if step >= arguments.steps or time.monotonic() - begun >= arguments.minutes * 60:
                break
        epoch += 1


@torch.no_grad()
def agreement(drafting: Drafting, texts: Texts, arguments: argparse.Namespace) -> list[float]:
    """By turn, the share of held-out tokens that the drafter finds if it has found those before."""
    right, tried = np.zeros(arguments.turns), np.zeros(arguments.turns)
    ids = arguments.drafted_ids
    for batch in texts.batches(texts.test, arguments.tokens, 0):
        so_far = torch.ones_like(batch.counts)  # whether everything before was found
        for turn, (logits, _, counts) in enumerate(drafting.turns(batch, arguments.turns)):
            positions = logits.shape[1]
            found = ids[logits.argmax(-1)] == batch.ids[:, 2 + turn : 2 + turn + positions]
            counts = counts & so_far[:, :positions]
            so_far = counts & found
            right[turn] += float(so_far.sum())
            tried[turn] += float(counts.sum())
    return [round(share, 4) for share in (right / np.maximum(tried, 1)).tolist()]


def save(drafter: Eagle3Drafter, arguments: argparse.Namespace) -> None:
    """Write the drafter's folder."""
    arguments.output.mkdir(parents=True, exist_ok=True)
    ids, vocab_size = arguments.drafted_ids, drafter.config.vocab_size
    tensors = {
        "fc.weight": drafter.tap.project.state_dict()["weight"],
        **{f"midlayer.{name}": one for name, one in drafter.model.layers[0].state_dict().items()},
        "norm.weight": drafter.norm.weight,
        "lm_head.weight": drafter.lm_head.weight,
    }
    tensors = {name: one.detach().half().contiguous() for name, one in tensors.items()}
    tensors["d2t"] = ids - torch.arange(len(ids))
    tensors["t2d"] = torch.isin(torch.arange(vocab_size), ids)
    save_file(tensors, arguments.output / "model.safetensors")
    config = drafter.config.to_diff_dict() | {
        "architectures": ["LlamaForCausalLMEagle3"],
        "draft_vocab_size": len(ids),
        "eagle_aux_hidden_state_layer_ids": list(drafter.tap.layers),
    }
    (arguments.output / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def main() -> int:
    """Train and write; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="the target")
    parser.add_argument("states", type=Path, help="what cache_states.py wrote")
    parser.add_argument("--layers", default="2,15,27", help="the layers whose input was cached")
    parser.add_argument("--draft-vocab-size", type=int, default=4608)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--tokens", type=int, default=4096, help="of a batch")
    parser.add_argument("--rate", type=float, default=6e-4)
    parser.add_argument("--every", type=int, default=250, help="steps between two evaluations, after which it is saved")
    parser.add_argument("--held-out", type=int, default=64, help="texts that are not trained on")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    target = AutoModelForCausalLM.from_pretrained(arguments.checkpoint, dtype=torch.float32).eval()
    texts = Texts(arguments.states, arguments.held_out)
    of_answers = np.bincount(texts.ids[texts.answers], minlength=target.config.vocab_size)
    frequent = np.sort(np.argsort(-of_answers, kind="stable")[: arguments.draft_vocab_size])
    covered = of_answers[frequent].sum() / of_answers.sum()
    print(
        f"{len(texts.train)} texts, {len(texts.ids)} tokens; drafted tokens cover {covered:.3f} of answers", flush=True
    )
    arguments.drafted_ids = torch.from_numpy(frequent)
    text = target.config
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
    layers = [int(layer) for layer in arguments.layers.split(",")]
    project = nn.Linear(len(layers) * text.hidden_size, text.hidden_size, bias=False)
    drafter = Eagle3Drafter(config, Tap(layers, project), frequent.tolist())
    head = target.lm_head.weight.detach()[arguments.drafted_ids]
    with torch.no_grad():
        drafter.lm_head.weight.copy_(head)
        drafter.norm.weight.copy_(target.model.norm.weight)
    drafter.model.embed_tokens = target.model.embed_tokens
    drafter.requires_grad_(True)
    drafter.model.embed_tokens.requires_grad_(False)
    drafting = Drafting(drafter, head)
    train(drafting, texts, arguments)
    print(json.dumps({"agreement": agreement(drafting, texts, arguments)}))
    save(drafter, arguments)
    return 0


if __name__ == "__main__":
    sys.exit(main())
