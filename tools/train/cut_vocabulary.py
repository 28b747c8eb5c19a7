"""Cut a model's vocabulary down to what its stories use, and add a mask token, for the training of a diffusion model.

    python tools/train/cut_vocabulary.py STORIES15M stories.jsonl --size 4096 --output start

Kept are the special tokens, the bytes, and the most frequent tokens together with the parts that they are merged from.
Tokens are numbered anew; the last one is the mask, whose embedding begins as the mean of the others.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

MASK = "<mask>"
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def kept_tokens(tokenizer: dict[str, Any], counts: Counter[str], size: int) -> list[str]:
    """The tokens of a cut vocabulary, in their old order.

    Args:
        tokenizer: The content of tokenizer.json, a BPE with bytes for what it has no token for.
        counts: How often each token is used.
        size: Most tokens.
    """
    vocab = tokenizer["model"]["vocab"]
    parts: dict[str, tuple[str, str]] = {}
    for left, right in tokenizer["model"]["merges"]:
        parts.setdefault(left + right, (left, right))
    special = {token["content"] for token in tokenizer["added_tokens"]}
    kept = {token for token in vocab if token in special or _BYTE.fullmatch(token)}
    for token, _ in counts.most_common():
        wanted = _closed(token, parts) - kept
        if len(kept) + len(wanted) <= size:
            kept |= wanted
    return sorted(kept, key=vocab.__getitem__)


def _closed(token: str, parts: dict[str, tuple[str, str]]) -> set[str]:
    """A token and everything that it is merged from."""
    found = {token}
    for part in parts.get(token, ()):
        found |= _closed(part, parts)
    return found


def cut_tokenizer(tokenizer: dict[str, Any], kept: list[str]) -> dict[str, Any]:
    """The content of tokenizer.json for these tokens and the mask."""
    there = set(kept)
    model = tokenizer["model"] | {
        "vocab": {token: number for number, token in enumerate(kept)},
        "merges": [pair for pair in tokenizer["model"]["merges"] if {*pair, "".join(pair)} <= there],
    }
    added = [token | {"id": model["vocab"][token["content"]]} for token in tokenizer["added_tokens"]]
    added.append(added[0] | {"id": len(kept), "content": MASK})
    processor = json.loads(json.dumps(tokenizer["post_processor"]))
    for token in processor["special_tokens"].values():
        token["ids"] = [model["vocab"][name] for name in token["tokens"]]
    return tokenizer | {"model": model, "added_tokens": added, "post_processor": processor}


def main() -> int:
    """Write the folder; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("stories", type=Path, help="what write_stories.py wrote")
    parser.add_argument("--size", type=int, default=4096, help="tokens, with the mask")
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    stories = [json.loads(line)["text"] for line in options.stories.read_text().splitlines()]
    whole = json.loads((options.model / "tokenizer.json").read_text())
    spoken = Tokenizer.from_str(json.dumps(whole))
    counts = Counter(token for one in spoken.encode_batch(stories) for token in one.tokens)
    kept = kept_tokens(whole, counts, options.size - 1)
    cut = Tokenizer.from_str(json.dumps(cut_tokenizer(whole, kept)))
    before, after = (sum(len(one.ids) for one in by.encode_batch(stories[:1000])) for by in (spoken, cut))
    print(f"{len(kept) + 1} tokens; 1000 stories have {after} of them, and had {before} before")

    model: Any = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    rows = model.get_input_embeddings().weight.detach()[[whole["model"]["vocab"][token] for token in kept]]
    model.resize_token_embeddings(len(kept) + 1, mean_resizing=False)
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(torch.cat([rows, rows.mean(dim=0, keepdim=True)]))
    model.save_pretrained(options.output)
    names = {name: spoken.id_to_token(getattr(model.config, f"{name}_id")) for name in ("bos_token", "eos_token")}
    PreTrainedTokenizerFast(tokenizer_object=cut, mask_token=MASK, **names).save_pretrained(options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
