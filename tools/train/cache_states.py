"""What a model's layers say of texts, cached for the training of drafters.

    python tools/train/cache_states.py CHECKPOINT texts.jsonl --layers 2,15,27 --output states

Runs the model once over every text of write_texts.py and writes, token by token: states.npy, float16
[tokens, layers + 1, hidden], the input of each of these layers and of the head; token_ids.npy; ends.npy, where each
text ends; answers.npy, whether a token belongs to an answer.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM

_TOKENS_AT_ONCE = 4096


def main() -> int:
    """Write the files; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--layers", required=True, help="layers whose input is cached, separated by commas")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    layers = [int(layer) for layer in arguments.layers.split(",")]
    lines = [json.loads(line) for line in arguments.texts.read_text().splitlines()]
    lines.sort(key=lambda line: len(line["token_ids"]))
    model = AutoModelForCausalLM.from_pretrained(arguments.checkpoint, dtype=torch.float32).eval()
    total = sum(len(line["token_ids"]) for line in lines)
    arguments.output.mkdir(parents=True, exist_ok=True)
    shape = (total, len(layers) + 1, model.config.hidden_size)
    states = np.lib.format.open_memmap(arguments.output / "states.npy", "w+", np.float16, shape)
    ids, ends, answers, done = [], [], [], 0
    for batch in batches([line["token_ids"] for line in lines]):
        longest = max(map(len, batch))
        rows = torch.tensor([[*one, *[0] * (longest - len(one))] for one in batch])  # text is causal: padding is unseen
        with torch.no_grad():
            made = model.model(rows, output_hidden_states=True)
        kept = torch.stack([*(made.hidden_states[layer] for layer in layers), made.last_hidden_state], dim=2)
        for row, one in zip(kept, batch, strict=True):
            states[done : done + len(one)] = row[: len(one)].half().numpy()
            done += len(one)
            ends.append(done)
        print(f"{done} of {total} tokens", file=sys.stderr, flush=True)
    for line in lines:
        ids += line["token_ids"]
        answers += [position >= line["answer"] for position in range(len(line["token_ids"]))]
    np.save(arguments.output / "token_ids.npy", np.array(ids, np.int32))
    np.save(arguments.output / "ends.npy", np.array(ends))
    np.save(arguments.output / "answers.npy", np.array(answers))
    return 0


def batches(texts: list[list[int]]) -> list[list[list[int]]]:
    """Texts of about the same length together."""
    found: list[list[list[int]]] = [[]]
    for one in texts:
        if found[-1] and (len(found[-1]) + 1) * len(one) > _TOKENS_AT_ONCE:
            found.append([])
        found[-1].append(one)
    return found


if __name__ == "__main__":
    sys.exit(main())
