"""The denoiser and the policy of one's own in docs/adding-a-model.md, run as written."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from ptgc.compiler.checking.check import check_bundle
from ptgc.runtime import Generator
from tests.documents import code_blocks


@torch.no_grad()
def _steps(model: Any, policy: Any, mask: int, text: list[int], num_steps: int, threshold: float) -> list[Any]:
    """What every round fills, by a plain loop."""
    ids, steps = torch.tensor([text]), []
    for left in range(num_steps, 0, -1):
        masked = ids == mask
        if not masked.any():
            break
        logits = model(ids, torch.tensor([len(text)]))
        logits[..., mask] = -torch.inf
        p, count = logits.softmax(-1), -(-int(masked.sum()) // left)
        scores, filled = policy(p, p.argmax(-1), masked, torch.tensor([count]), torch.tensor([threshold]))
        first = scores.masked_fill(~masked, -torch.inf)[0].argsort(descending=True, stable=True)[:count]
        filled = (filled & masked).index_fill(1, first, value=True)
        steps.append({at: int(p[0, at].argmax()) for at in filled[0].nonzero().flatten().tolist()})
        ids = ids.where(~filled, p.argmax(-1))
    return steps


def test_the_worked_denoiser_counts_and_its_policy_fills_what_pytorch_fills(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "denoiser.py").write_text("\n".join(code_blocks("docs/adding-a-model.md", "python")[:2]))
    made = runpy.run_path("denoiser.py")
    counted, infilled, near = capsys.readouterr().out.splitlines()
    assert (counted, infilled) == ("[6, 7, 8, 9, 0, 1, 2, 3, 4]", "[8, 9, 0, 1, 2]")
    assert near.startswith(counted)
    assert all(report.passed for name in ("counting", "near-first") for report in check_bundle(tmp_path / name))
    model, policy, mask = made["model"], made["NearFirst"](), made["MASK"]
    text = [7, mask, mask, 0, mask, mask, mask, 4, mask, mask]
    with Generator("near-first") as generator:
        for options in ({}, {"num_steps": 4, "threshold": 1.0}, {"num_steps": 10, "threshold": 0.97}):
            given: Any = {"num_steps": 6, "threshold": 0.99} | options
            found = generator.generate(text, trace=True, **given)
            rounds = [dict(zip(one.filled_positions, one.filled_ids, strict=True)) for one in found.trace]
            assert rounds == _steps(model, policy, mask, text, **given)
