"""Conversations that a chat model writes by itself, and what its layers say of them: what its drafters learn from.

    python tools/train/write_texts.py CHECKPOINT --tokens 1000000 --output texts

A user's turn is what the model continues an empty one with (Magpie: Xu et al., arXiv 2406.08464, section 2). Half of
the answers are greedy, the others are sampled. The folder holds texts.jsonl, with {"token_ids": [...], "answer": N} per
text, N being where the answer begins, and states.f16: for each token of all texts, in order, float16 [layers + 1,
hidden], the input of each of the `--layers` (listed in layers.json) and that of the head. A run that was stopped goes
on where it ended.

Models of the Llama architecture, many texts at once: a text that ends makes room for the next one.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from number_type import product_type
from torch import Tensor
from torch.nn.functional import linear, rms_norm, scaled_dot_product_attention, silu
from transformers import AutoModelForCausalLM, AutoTokenizer

TURN_TOKENS, ANSWER_TOKENS = 96, 320
TURN_TEMPERATURE, ANSWER_TEMPERATURE, TOP_K = 1.0, 0.7, 100
_MARK = "\N{SECTION SIGN}"


class Decoder:
    """A Llama that reads one token of each of many texts at a time."""

    def __init__(self, model: Any, taps: list[int], rows: int, length: int) -> None:
        config = model.config
        self.taps, self.eps = taps, config.rms_norm_eps
        self.heads, self.groups = config.num_key_value_heads, config.num_attention_heads // config.num_key_value_heads
        self.size = model.model.layers[0].self_attn.head_dim
        self.embedding, self.exact_head = model.model.embed_tokens.weight, model.lm_head.weight
        self.dtype = product_type()
        self.head = self.exact_head.to(self.dtype)
        self.norm = model.model.norm.weight
        self.layers = [self._weights(layer) for layer in model.model.layers]
        self.caches = torch.zeros(len(self.layers), 2, rows, self.heads, length, self.size, dtype=self.dtype)
        at = torch.arange(length)[None]
        cos, sin = model.model.rotary_emb(self.embedding[:1, None], at)
        self.cos, self.sin = cos[0], sin[0]
        self.rows = torch.arange(rows)

    def _weights(self, layer: Any) -> tuple[Tensor, ...]:
        attention, mlp = layer.self_attn, layer.mlp
        pairs = torch.cat([part.weight for part in (attention.q_proj, attention.k_proj, attention.v_proj)])
        gates = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])
        matrices = (pairs, attention.o_proj.weight, gates, mlp.down_proj.weight)
        norms = (layer.input_layernorm.weight, layer.post_attention_layernorm.weight)
        return (*(matrix.to(self.dtype) for matrix in matrices), *norms)

    def step(self, ids: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Rough logits `[rows, vocab]` after one more token of each row, and its states `[rows, taps + 1, hidden]`."""
        hidden = self.embedding[ids]
        length = int(positions.max()) + 1
        seen = torch.arange(length) <= positions[:, None]
        cos, sin = self.cos[positions, None], self.sin[positions, None]
        tapped = []
        for index, (pairs, out, gates, down, before, after) in enumerate(self.layers):
            if index in self.taps:
                tapped.append(hidden)
            read = linear(self._norm(hidden, before), pairs)
            made = self._attend(read.view(len(ids), -1, self.size), cos, sin, positions, seen, self.caches[index])
            hidden = hidden + linear(made, out)
            gate, up = linear(self._norm(hidden, after), gates).chunk(2, dim=-1)
            hidden = hidden + linear(silu(gate) * up, down)
        last = rms_norm(hidden, hidden.shape[-1:], self.norm, self.eps)
        return linear(last.to(self.dtype), self.head), torch.stack([*tapped, last], dim=1)

    def _norm(self, hidden: Tensor, weight: Tensor) -> Tensor:
        return rms_norm(hidden, hidden.shape[-1:], weight, self.eps).to(self.dtype)

    def _attend(self, read: Tensor, cos: Tensor, sin: Tensor, positions: Tensor, seen: Tensor, cache: Tensor) -> Tensor:
        count = self.heads * self.groups
        turned = _rotate(read[:, : count + self.heads].float(), cos, sin).to(self.dtype)
        cache[0, self.rows, :, positions] = turned[:, count:]
        cache[1, self.rows, :, positions] = read[:, count + self.heads :]
        query = turned[:, :count].reshape(len(read), self.heads, self.groups, self.size)
        keys, values = cache[:, :, :, : seen.shape[1]]
        made = scaled_dot_product_attention(query, keys, values, seen[:, None, None])
        return made.reshape(len(read), -1)


def _rotate(heads: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    low, high = heads.chunk(2, dim=-1)
    return heads * cos + torch.cat([-high, low], dim=-1) * sin


@dataclass
class Row:
    """A text that is being written."""

    given: list[int]  # tokens that are still to be read before the next is chosen
    greedy: bool
    ids: list[int] = field(default_factory=list)  # read so far
    states: list[Tensor] = field(default_factory=list)
    answer: int = 0  # where the answer begins; 0 while the user speaks
    written: int = 0  # tokens of the turn
    over: bool = False  # whether what is given ends the text


class Frame:
    """The tokens around a user's turn."""

    def __init__(self, tokenizer: Any) -> None:
        self.end = tokenizer.eos_token_id
        self.special = set(tokenizer.all_special_ids)
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": _MARK}], tokenize=False, add_generation_prompt=True
        )
        self.before, self.behind = (tokenizer.encode(part, add_special_tokens=False) for part in text.split(_MARK))


class Writer:
    """Writes texts in all rows at once."""

    def __init__(self, decoder: Decoder, frame: Frame) -> None:
        self.decoder = decoder
        self.frame = frame
        self.started = 0
        self.rows = [self._start() for _ in decoder.rows]

    def _start(self) -> Row:
        self.started += 1
        return Row(list(self.frame.before), greedy=self.started % 2 == 0)

    @torch.no_grad()
    def texts(self) -> Iterator[Row]:
        """Finished texts, without end; a user who says nothing, or does not come to an end, is left out."""
        chosen = [row.given.pop(0) for row in self.rows]
        while True:
            positions = torch.tensor([len(row.ids) for row in self.rows])
            likely, states = self.decoder.step(torch.tensor(chosen), positions)
            after = self._choose(likely, states[:, -1])
            states = states.half()
            for index, row in enumerate(self.rows):
                row.ids.append(chosen[index])
                row.states.append(states[index])
                if not row.given and not row.over:
                    self._add(row, after[index])
                if not row.given:
                    if row.answer:
                        yield row
                    row = self.rows[index] = self._start()
                chosen[index] = row.given.pop(0)

    def _add(self, row: Row, token: int) -> None:
        """Give the row its next token, or the next turn; nothing where the user's turn is of no use."""
        row.written += 1
        if row.answer:
            row.over = token == self.frame.end or row.written == ANSWER_TOKENS
            row.given = [token]
        elif token == self.frame.end and row.written > 4:
            row.given = list(self.frame.behind)
            row.answer, row.written = len(row.ids) + len(self.frame.behind), 0
        elif token not in self.frame.special and row.written <= TURN_TOKENS:
            row.given = [token]

    def _choose(self, likely: Tensor, states: Tensor) -> list[int]:
        """A token for each row, of the likely ones: their scores are computed anew, since bfloat16 is too coarse."""
        ids = likely.topk(TOP_K).indices
        scores = (self.decoder.exact_head[ids] @ states[:, :, None])[..., 0]
        heat = torch.tensor([ANSWER_TEMPERATURE if row.answer else TURN_TEMPERATURE for row in self.rows])
        noise = -torch.empty_like(scores).exponential_().log()
        greedy = torch.tensor([bool(row.answer) and row.greedy for row in self.rows])
        noise[greedy] = 0
        made: list[int] = ids.gather(1, (scores / heat[:, None] + noise).argmax(-1, keepdim=True))[:, 0].tolist()
        return made


def check(config: Any, layers: list[int], file: Path) -> None:
    """Stop at models that this decoder does not compute, and at texts whose states are of other layers."""
    if config.model_type != "llama" or config.attention_bias or config.mlp_bias:
        sys.exit(
            f"This is a {config.model_type}; only models of the Llama architecture without biases are decoded here."
        )
    if not 0 <= layers[0] <= layers[-1] < config.num_hidden_layers or len(set(layers)) < len(layers):
        sys.exit(f"--layers must be different layers from 0 to {config.num_hidden_layers - 1}.")
    if file.exists() and json.loads(file.read_text()) != layers:
        sys.exit(f"{file} lists other layers: give another --output.")
    file.write_text(json.dumps(layers) + "\n")


def main() -> int:
    """Write the folder; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--layers", default="2,15,27", help="layers whose input is kept, separated by commas")
    parser.add_argument("--tokens", type=int, default=1_000_000, help="how many the texts are to have")
    parser.add_argument("--rows", type=int, default=128, help="texts that are written at once")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    texts, states = arguments.output / "texts.jsonl", arguments.output / "states.f16"
    layers = sorted(int(layer) for layer in arguments.layers.split(","))
    model = AutoModelForCausalLM.from_pretrained(arguments.checkpoint, dtype=torch.float32).eval().requires_grad_(False)
    check(model.config, layers, arguments.output / "layers.json")
    row_bytes = (len(layers) + 1) * model.config.hidden_size * 2
    lines = texts.read_text().splitlines() if texts.exists() else []
    done = sum(len(json.loads(line)["token_ids"]) for line in lines)
    torch.manual_seed(done)
    frame = Frame(AutoTokenizer.from_pretrained(arguments.checkpoint))
    length = len(frame.before) + TURN_TOKENS + len(frame.behind) + ANSWER_TOKENS + 1
    writer = Writer(Decoder(model, layers, arguments.rows, length), frame)
    begun, before, count = time.monotonic(), done, len(lines)
    with texts.open("a") as lines_file, states.open("ab") as states_file:
        states_file.truncate(done * row_bytes)
        for row in writer.texts():
            states_file.write(np.ascontiguousarray(torch.stack(row.states).numpy()).data)
            states_file.flush()
            lines_file.write(json.dumps({"token_ids": row.ids, "answer": row.answer}) + "\n")
            lines_file.flush()
            done += len(row.ids)
            count += 1
            if count % 20 == 0:
                speed = (done - before) / (time.monotonic() - begun)
                print(f"{count} texts, {done} tokens, {speed:.0f} a second", file=sys.stderr, flush=True)
            if done >= arguments.tokens:
                return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
