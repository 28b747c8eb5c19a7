"""Let stories15M write the stories that small diffusion models learn from.

    ptgc export STORIES15M -o bundles/stories --strategy autoregressive
    ptgc build bundles/stories --precision int8 --batch-size 16
    python tools/train/write_stories.py bundles/stories --stories 12000 --output stories.jsonl

Stories are sampled at a temperature below 1: the less a model hesitates, the more positions can be filled at once by
one that learns from it (Gu et al., arXiv 1711.02281, section 3.3, on texts of a teacher that are easier to write in
parallel). The seeds are the numbers of the stories, so that a repeated run writes the same ones; a run goes on behind
what an earlier one wrote.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from ptgc.runtime import Generator

_BEGIN = 1  # <s>: the model writes it before a story, and again behind it
_LONGEST = 255  # tokens, of the 256 that the model knows positions for
_TOGETHER = 64  # stories of one call


def main() -> int:
    """Write the file; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="of stories15M, with a build for many sequences")
    parser.add_argument("--stories", type=int, default=12000)
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--num-threads", type=int)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    begun, tokens = time.monotonic(), 0
    there = options.output.read_text().splitlines(keepends=True) if options.output.exists() else []
    there = there[: len(there) // _TOGETHER * _TOGETHER]
    options.output.write_text("".join(there))
    with Generator(options.bundle, num_threads=options.num_threads) as generator, options.output.open("a") as file:
        for first in range(len(there), options.stories, _TOGETHER):
            count = min(_TOGETHER, options.stories - first)
            written = generator.generate(
                [[_BEGIN]] * count,
                max_new_tokens=_LONGEST,
                temperature=options.temperature,
                seed=first,
                stop_token_ids=[_BEGIN],
            )
            for one in written:
                file.write(json.dumps({"text": one.text.strip()}, ensure_ascii=False) + "\n")
                tokens += len(one.token_ids)
            speed = tokens / (time.monotonic() - begun)
            print(f"{first + count} stories, {tokens} tokens, {speed:.0f} a second", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
