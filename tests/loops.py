"""Builds for the loops that tiny causal models do not cover."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.exporters import export
from ptgc.spec.edit import EditPlan, EditStart
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.levenshtein import levenshtein
from tests.block_diffusion import tiny_block_diffusion
from tests.models import tiny_model
from tests.other_models import (
    tiny_bert,
    tiny_ctc,
    tiny_insertion,
    tiny_levenshtein,
    tiny_marian,
    tiny_source_editor,
)
from tests.shared import worker_copy

LENGTH = 40
LEVENSHTEIN = levenshtein(placeholder_token_id=3, bos_token_id=1, eos_token_id=2, pad_token_id=0, max_rounds=6)
INSERTION = DecodePlan(
    "insertion",
    Loop.EDIT,
    Guarantee.LOSSY,
    edit=EditPlan(("token_inserter",), 8, bos_token_id=1, eos_token_id=2, pad_token_id=0, stop_token_id=4),
)
SOURCE_EDITS = DecodePlan(
    "source-edits",
    Loop.EDIT,
    Guarantee.LOSSY,
    edit=EditPlan(
        ("deleter", "token_inserter"),
        3,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        stop_token_id=4,
        start=EditStart.SOURCE,
    ),
)


@cache
def _loop_bundle(place: Path, name: str, plan: DecodePlan) -> Path:
    makers = {
        "bert": lambda: {"denoiser": tiny_bert()},
        "block-diffusion": lambda: {"denoiser": tiny_block_diffusion()},
        "llama": lambda: {"denoiser": tiny_block_diffusion()},
        "ctc": lambda: tiny_ctc(2),
        "drafter": lambda: {"target": tiny_model("llama"), "drafter": tiny_model("llama")},
        "levenshtein": tiny_levenshtein,
        "insertion": tiny_insertion,
        "source-editor": tiny_source_editor,
        "marian": lambda: {"encoder": tiny_marian(), "target": tiny_marian()},
    }
    roles: Any = makers[name]()
    digest = hashlib.sha256(repr(plan).encode()).hexdigest()[:12]
    return worker_copy(place, f"loop-{name}-{digest}", lambda path: export(roles, plan, path))


@cache
def loop_build(place: Path, name: str, plan: DecodePlan, batch: int, precision: str) -> Path:
    """The folder of a build of a model of `_loop_bundle`."""
    bundle = _loop_bundle(place, name, plan)
    options = BuildOptions(
        precision=precision, batch_size=batch, max_length=LENGTH, stage=Stage.PREPARE, build_id=f"{precision}-{batch}"
    )
    return build(bundle, options).path
