"""Write the bundles that `make gpu` runs: stories15M, and tiny models of every loop.

    python tools/gpu/write_bundles.py bundles/gpu --stories $(python tools/fetch_models.py stories15m | tail -n 1)

Each is one archive. The weights of stories15M are rounded to float16 and computed in float32, so that the reference
texts are exact and the archive is half as large.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tiny_models
import torch
from archives import pack_bundle
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from ptgc.errors import PtgcError
from ptgc.exporters import export
from ptgc.spec.plan import DecodePlan
from ptgc.spec.strategies.ctc import ctc
from ptgc.spec.strategies.draft_model import draft_model
from ptgc.spec.strategies.levenshtein import levenshtein
from ptgc.spec.strategies.masked_diffusion import masked_diffusion
from ptgc.spec.strategies.ngram import ngram

MASK = 3
Modules = Callable[[], Mapping[str, nn.Module]]


def _pair() -> Mapping[str, nn.Module]:
    target = tiny_models.causal()
    return {"target": target, "drafter": tiny_models.disturbed(target)}


def _translation() -> Mapping[str, nn.Module]:
    model = tiny_models.encoder_decoder()
    return {"encoder": model, "target": model}


TINY: dict[str, tuple[Modules, DecodePlan]] = {
    "draft-model": (_pair, draft_model(4)),
    "encoder-decoder": (_translation, ngram(5, 3, 1)),
    "sliding-window": (lambda: {"target": tiny_models.causal_with_window()}, ngram(7, 3, 1)),
    "masked-diffusion-steps": (lambda: {"denoiser": tiny_models.masked()}, masked_diffusion(MASK, 4)),
    "masked-diffusion-blocks": (lambda: {"denoiser": tiny_models.masked()}, masked_diffusion(MASK, 7, block_length=5)),
    "masked-diffusion-threshold": (
        lambda: {"denoiser": tiny_models.masked()},
        masked_diffusion(MASK, 8, threshold=0.2),
    ),
    "ctc": (lambda: tiny_models.ctc(2), ctc(0, 2)),
    "levenshtein": (tiny_models.levenshtein, levenshtein(3, 1, 2, 0, max_rounds=6)),
}
"""Roles and plans by name of the bundle."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the bundles given on the command line; return the exit status."""
    parser = argparse.ArgumentParser(description="Write the bundles that `make gpu` runs.")
    parser.add_argument("folder", type=Path, help="output folder; archives of the same names are replaced")
    parser.add_argument("--stories", type=Path, help="directory of stories15M; without it only tiny models are written")
    parser.add_argument("--only", help="names, separated by commas (default: all)")
    options = parser.parse_args(arguments)
    wanted = options.only.split(",") if options.only else ["stories15m", *TINY]
    try:
        for name in wanted:
            if name == "stories15m" and options.stories is None:
                continue
            made = write(name, options.folder, options.stories)
            print(f"{made}  {made.stat().st_size / 1e6:.2f} MB")
    except PtgcError as error:
        print(f"Error: {error.message}\n{error.action}", file=sys.stderr)
        return 1
    return 0


def write(name: str, folder: Path, stories: Path | None = None) -> Path:
    """Write one bundle.

    Args:
        name: `stories15m`, or one of `TINY`.
        folder: Where its archive goes.
        stories: The directory of stories15M.

    Raises:
        PtgcError: It cannot be exported.
    """
    if name == "stories15m":
        assert stories is not None
        return pack_bundle(_export_stories(stories, folder / name))
    modules, plan = TINY[name]
    return pack_bundle(export(modules(), plan, folder / name, force=True))


def _export_stories(directory: Path, output: Path) -> Path:
    model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, local_files_only=True).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half())
    tokenizer = AutoTokenizer.from_pretrained(directory, local_files_only=True)
    note = {"source": "stories15m", "weights": "rounded to float16"}
    return export({"target": model}, ngram(), output, tokenizer=tokenizer, provenance=note, force=True)


if __name__ == "__main__":
    sys.exit(main())
