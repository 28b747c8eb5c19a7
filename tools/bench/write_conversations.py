"""Write conversations for calibrating quantisation: a build's answers to prompts.

    python tools/bench/write_conversations.py BUNDLE --prompts story,code-edit --output conversations.jsonl

Do not use the prompts of the benchmarks: a model must not be calibrated on the texts that it is judged by.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from report_output import report_errors

from ptgc.runtime import Generator
from ptgc.texts.prompt_set import prompt_file, read_entries

_NEW_TOKENS = 160
_TEMPERATURE = 0.7


def main() -> int:
    """Write the file; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="bundle with a build that runs here")
    parser.add_argument("--build", help="name of the build (default: the newest)")
    parser.add_argument("--prompts", default="story,code-edit", help="sets or files, separated by commas")
    parser.add_argument("--output", type=Path, required=True, help="JSONL file with messages, for --calibration")
    arguments = parser.parse_args()
    with report_errors() as status:
        lines = []
        with Generator(arguments.bundle, build=arguments.build) as generator:
            for name in arguments.prompts.split(","):
                texts = [entry for entry in read_entries(prompt_file(name)) if "token_ids" not in entry]
                for seed, entry in enumerate(texts):
                    messages = entry.get("messages") or [{"role": "user", "content": entry["prompt"]}]
                    options = {"max_new_tokens": _NEW_TOKENS, "temperature": _TEMPERATURE, "seed": seed}
                    answer = {"role": "assistant", "content": generator.generate(messages, **options).text}
                    lines.append(json.dumps({"id": f"{name}/{entry['id']}", "messages": [*messages, answer]}))
        arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return status.code


if __name__ == "__main__":
    sys.exit(main())
