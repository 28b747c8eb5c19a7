"""Conversations that a chat model writes by itself, both sides of them: what its drafters are trained on.

    python tools/train/write_texts.py BUNDLE CHECKPOINT --conversations 4000 --output texts.jsonl

A user's turn is what the model continues an empty one with (Magpie: Xu et al., arXiv 2406.08464, section 2); every
other answer is greedy, the rest are sampled. A line is {"token_ids": [...], "answer": N}, N being where the answer
begins. Lines are added to the file as they are made, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from ptgc.runtime import Generator

AT_ONCE = 128
TURN_TOKENS, ANSWER_TOKENS = 96, 320
_MARK = "\N{SECTION SIGN}"


def chat_frame(tokenizer: Any) -> tuple[list[int], list[int]]:
    """What stands before a user's turn, and what stands between it and the answer, as token ids."""
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": _MARK}], tokenize=False, add_generation_prompt=True
    )
    before, _, behind = text.partition(_MARK)
    return tuple(tokenizer.encode(part, add_special_tokens=False) for part in (before, behind))


def conversations(generator: Generator, tokenizer: Any, seed: int) -> Iterator[dict[str, Any]]:
    """`AT_ONCE` conversations; those whose user says nothing, or does not come to an end, are left out."""
    before, behind = chat_frame(tokenizer)
    turns = generator.generate([before] * AT_ONCE, max_new_tokens=TURN_TOKENS, temperature=1.0, top_p=0.95, seed=seed)
    special = set(tokenizer.all_special_ids)
    said = [
        [*before, *(one for one in turn.token_ids if one not in special), *behind]
        for turn in turns
        if turn.finish_reason == "eos" and len(turn.token_ids) > 4
    ]
    for greedy in (True, False):
        prompts = said[greedy::2]
        how = {"temperature": 0.0} if greedy else {"temperature": 0.7, "seed": seed}
        answers = generator.generate(prompts, max_new_tokens=ANSWER_TOKENS, **how)
        for prompt, answer in zip(prompts, answers, strict=True):
            yield {"token_ids": [*prompt, *answer.token_ids], "answer": len(prompt)}


def main() -> int:
    """Write the file; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="of the model, with a build for many sequences that runs here")
    parser.add_argument("checkpoint", type=Path, help="the model's own folder, for its tokenizer and chat template")
    parser.add_argument("--conversations", type=int, default=4000, help="how many lines the file is to have")
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(arguments.checkpoint)
    done = len(arguments.output.read_text().splitlines()) if arguments.output.exists() else 0
    with Generator(arguments.bundle) as generator, arguments.output.open("a") as output:
        while done < arguments.conversations:
            for line in conversations(generator, tokenizer, seed=done):
                output.write(json.dumps(line) + "\n")
                done += 1
            output.flush()
            print(f"{done} conversations", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
