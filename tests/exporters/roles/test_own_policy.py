"""Policies of one's own: what they may be, and that they do what the built-in ones do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.errors import ExportError
from ptgc.exporters import export
from ptgc.exporters.roles.own_policy import trace_policy
from ptgc.runtime import Generator
from ptgc.spec import ports
from ptgc.spec.canvas import PolicyKind, PolicyPlan
from ptgc.spec.strategies.block_diffusion import block_diffusion
from ptgc.spec.strategies.masked_diffusion import MaskedDiffusionOptions, masked_diffusion
from tests.block_diffusion import BLOCK_DIFFUSION, diffuse_blocks, tiny_block_diffusion
from tests.unmasking import INFILLED, MASK, PLANS, llama_logits, unmask

Scores = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Any]
PLAN = masked_diffusion(MASK, policy=PolicyKind.OWN)


class _Policy(nn.Module):
    def __init__(self, scores: Scores) -> None:
        super().__init__()
        self.scores = scores

    def forward(self, *given: Tensor) -> Any:
        return self.scores(*given)


class EntropyBound(nn.Module):
    """The built-in policy `entropy`, with an entropy of 0 for the mask token's probability of 0."""

    def forward(self, p: Tensor, token_ids: Tensor, mask: Tensor, step: Tensor, threshold: Tensor) -> Any:
        entropy = -(p * p.clamp(min=1e-30).log()).sum(-1)
        ahead = (entropy[:, None, :] < entropy[:, :, None]) & mask[:, None, :]
        before = entropy[:, None, :].where(ahead, 0).sum(-1)
        return (-entropy).masked_fill(~mask, torch.nan), before < threshold[:, None]


@pytest.mark.parametrize("policy", ["entropy", "factor"])
def test_a_module_does_what_the_built_in_policy_does_in_the_graph_of_a_language_model(
    policy: str, tmp_path: Path
) -> None:
    modules = {
        "entropy": EntropyBound(),
        "factor": _Policy(lambda p, *_: p.amax(-1)),  # without what the threshold adds
    }
    plan = PLANS[policy]
    if policy == "factor":
        plan = replace(plan, policy=replace(plan.policy, threshold=None))
    own = replace(plan, policy=PolicyPlan(PolicyKind.OWN, plan.policy.threshold))
    given = {"denoiser": tiny_block_diffusion(), "policy": modules[policy].eval()}
    bundle = export(given, replace(PLAN, canvas=own), tmp_path / "bundle")
    build(bundle, BuildOptions(precision="float32", batch_size=3, max_length=40, stage=Stage.PREPARE))
    with Generator(bundle) as generator:
        found = generator.generate(INFILLED, trace=True)
    for text, result in zip(INFILLED, found, strict=True):
        rounds = [dict(zip(one.filled_positions, one.filled_ids, strict=True)) for one in result.trace]
        assert rounds == unmask(llama_logits, text, plan)


def test_a_module_chooses_among_the_positions_of_a_block_over_a_cache(tmp_path: Path) -> None:
    blocks = BLOCK_DIFFUSION.canvas
    assert blocks is not None
    plan = replace(BLOCK_DIFFUSION, canvas=replace(blocks, policy=PolicyPlan(PolicyKind.OWN)))
    given = {"denoiser": tiny_block_diffusion(), "policy": _Policy(lambda p, *_: p.amax(-1)).eval()}
    bundle = export(given, plan, tmp_path / "bundle")
    build(bundle, BuildOptions(precision="float32", max_length=40, stage=Stage.PREPARE))
    with Generator(bundle) as generator:
        found = generator.generate([9, 10, 11, 12, 13], max_new_tokens=10).token_ids
    assert found == diffuse_blocks([9, 10, 11, 12, 13], 10, blocks)


@pytest.mark.parametrize(
    ("scores", "said"),
    [
        (lambda p, *_: p, r"for 3 texts of 8 positions it gives float32 \[3, 8, 9\]; it must give scores"),
        (lambda p, *_: p.amax(-1).double(), r"it gives float64 \[3, 8\]; .*float32 \[3, 8\]"),
        (lambda p, *_: (p.amax(-1), p.amax(-1)), r"it gives float32 \[3, 8\], float32 \[3, 8\]; .*bool \[3, 8\]"),
        (lambda *_: None, "it gives NoneType"),
        (lambda p, *_: -(p * p.log()).sum(-1), "gives NaN as the score of a masked position"),
        (lambda p, *_: p.amax(-1) - p.amax(-1).mean(0), "mixes texts, or reads padding"),
        (lambda p, *_: p.amax(-1) - p.amax(-1).mean(1, keepdim=True), "mixes texts, or reads padding"),
        (lambda p, *_: p.amax(-1) if p.amax() > 2 else p.amin(-1), "could not be traced"),
    ],
)
def test_what_is_no_policy_is_refused(scores: Scores, said: str) -> None:
    assert PLAN.canvas is not None
    with pytest.raises(ExportError, match=said):
        trace_policy({"policy": _Policy(scores)}, PLAN.canvas, 9, ports.CANVAS_LENGTH)


def test_a_policy_and_its_plan_belong_together(tmp_path: Path) -> None:
    denoiser: dict[str, nn.Module] = {"denoiser": tiny_block_diffusion()}
    with pytest.raises(ExportError, match="A policy is not given; the plan's is own"):
        export(denoiser, PLAN, tmp_path / "bundle")
    with pytest.raises(ExportError, match="A policy is given; the plan's is confidence"):
        export(denoiser | {"policy": EntropyBound()}, masked_diffusion(MASK), tmp_path / "bundle")
    with pytest.raises(ExportError, match="it gives float32"):
        export(denoiser | {"policy": _Policy(lambda p, *_: p)}, PLAN, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()
    canvas = block_diffusion(MASK, 4, policy=PolicyKind.OWN).canvas
    assert canvas is not None and canvas.policy.kind is PolicyKind.OWN
    assert "--policy is own, which needs a module" in MaskedDiffusionOptions(policy=PolicyKind.OWN).problems()[0]
