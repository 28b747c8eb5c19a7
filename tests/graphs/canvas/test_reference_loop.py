"""The canvas loop in numpy against plain PyTorch."""

from __future__ import annotations

import pytest

from ptgc.exporters.references.original_roles import original_roles
from ptgc.graphs.canvas.reference_loop import fill
from ptgc.spec.plan import DecodePlan
from ptgc.spec.strategies.masked_diffusion import STRATEGY
from tests.block_diffusion import tiny_block_diffusion
from tests.other_models import tiny_bert
from tests.unmasking import INFILLED, PLANS, bert_logits, llama_logits, unmask

MODELS = {"bert": (tiny_bert, bert_logits), "llama": (tiny_block_diffusion, llama_logits)}


@pytest.mark.parametrize("policy", PLANS)
@pytest.mark.parametrize("name", MODELS)
def test_the_numpy_loop_fills_what_pytorch_fills(name: str, policy: str) -> None:
    (model, logits), canvas = MODELS[name], PLANS[policy]
    plan = DecodePlan(STRATEGY.name, STRATEGY.loop, STRATEGY.guarantee, canvas=canvas)
    denoiser = original_roles({"denoiser": model()}, plan)["denoiser"]
    for given in INFILLED:
        rounds = unmask(logits, given, canvas)
        expected = dict(enumerate(given)) | {at: token for one in rounds for at, token in one.items()}
        assert fill(denoiser, canvas, given) == (list(expected.values()), len(rounds))
    assert fill(denoiser, canvas, [5, 6, 7]) == ([5, 6, 7], 0)
