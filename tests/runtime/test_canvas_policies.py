"""Policies, schedules and options of requests of the canvas loop, through the public calls, against plain PyTorch."""

from __future__ import annotations

import itertools
import json
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForMaskedLM
from typer.testing import CliRunner

from ptgc.cli.app import app
from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.compiler.checking.check import check_bundle
from ptgc.errors import UsageError
from ptgc.exporters import export
from ptgc.runtime import Generator
from ptgc.spec.canvas import CanvasPlan, ConfidenceOf, PolicyPlan
from ptgc.spec.plan import DecodePlan
from ptgc.spec.strategies.masked_diffusion import masked_diffusion
from tests.loops import loop_build
from tests.other_models import lively, tiny_bert, words
from tests.runtime.sampled_texts import chi_square
from tests.unmasking import INFILLED, MASK, PLANS, Rounds, bert_logits, filled, likeliest, llama_logits, unmask

LOGITS = {"bert": bert_logits, "llama": llama_logits}
PROMPTS = [[9, 10, 11], [20]]


def _generator(place: Path, name: str, policy: str, batch: int) -> Generator:
    plan = replace(masked_diffusion(MASK), canvas=PLANS[policy])
    made = loop_build(place, name, plan, batch, "float32")
    return Generator(made.parents[1], build=made.name)


def _rounds(result: Any) -> Rounds:
    return _rounds_of(result.trace)


def _rounds_of(trace: Any) -> Rounds:
    return [dict(zip(one.filled_positions, one.filled_ids, strict=True)) for one in trace]


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("policy", PLANS)
@pytest.mark.parametrize("name", LOGITS)
def test_every_round_fills_what_pytorch_fills(name: str, policy: str, batch: int, place: Path) -> None:
    plan, logits = PLANS[policy], LOGITS[name]
    with _generator(place, name, policy, batch) as generator:
        found = generator.generate(INFILLED, seed=4, trace=True)
        written = generator.generate(PROMPTS, max_new_tokens=9, seed=7, trace=True)
    for number, (text, result) in enumerate(zip(INFILLED, found, strict=True)):
        assert _rounds(result) == unmask(logits, text, plan, 4 + number)
    for number, (prompt, result) in enumerate(zip(PROMPTS, written, strict=True)):
        expected = unmask(logits, prompt + [MASK] * 9, plan, 7 + number)
        assert _rounds(result) == expected
        assert result.token_ids == [token for _, token in sorted(itertools.chain(*(one.items() for one in expected)))]
        assert result.seed == (7 + number if policy == "random" else None)


@pytest.mark.parametrize("name", LOGITS)
def test_a_round_tells_the_probabilities_of_what_it_fills(name: str, place: Path) -> None:
    plan, text = PLANS["factor"], INFILLED[2]
    with _generator(place, name, "factor", 1) as generator:
        trace = generator.generate(text, trace=True).trace
    for number, one in enumerate(trace):
        best = likeliest(LOGITS[name], filled(text, _rounds_of(trace[:number])), plan)
        assert one.confidences == pytest.approx([best[at] for at in one.filled_positions], abs=1e-4)


def test_a_stream_tells_what_every_round_fills_before_it_gives_text(place: Path) -> None:
    with _generator(place, "bert", "factor", 1) as generator:
        expected = generator.generate(PROMPTS[0], max_new_tokens=9, trace=True)
        chunks = list(generator.stream(PROMPTS[0], fills=True, max_new_tokens=9))
        silent = list(generator.stream(PROMPTS[0], max_new_tokens=9))
        session = generator.session()
        session.append(PROMPTS[0])
        continued = list(session.stream(fills=True, max_new_tokens=9))
    told = [{"ids": [*one.token_ids], **dict(zip(one.filled_positions, one.filled_ids, strict=True))} for one in chunks]
    rounds = []
    for one in expected.trace:
        rounds.append({"ids": [], **dict(zip(one.filled_positions, one.filled_ids, strict=True))})
        rounds += [{"ids": one.emitted_ids}] if one.emitted_ids else []
    assert told[:-1] == rounds and len(expected.trace) > 2
    assert [replace(one, result=None) for one in continued] == [replace(one, result=None) for one in chunks]
    assert not any(one.filled_positions for one in silent)


def test_requests_that_share_rounds_have_their_own_steps_and_thresholds(place: Path) -> None:
    wanted: list[dict[str, Any]] = [{"num_steps": 2}, {"num_steps": 10, "threshold": 0.15}, {"threshold": 0}, {}]
    text = INFILLED[2]
    with _generator(place, "llama", "confidence", 3) as generator, ThreadPoolExecutor(4) as threads:
        calls = [threads.submit(generator.generate, text, trace=True, **options) for options in wanted]
        found = [_rounds(call.result()) for call in calls]
    for options, rounds in zip(wanted, found, strict=True):
        plan = PLANS["confidence"]
        policy = replace(plan.policy, threshold=options.get("threshold"))
        plan = replace(plan, num_steps=options.get("num_steps", plan.num_steps), policy=policy)
        assert rounds == unmask(llama_logits, text, plan)
    assert [len(rounds) for rounds in found[::2]] == [2, 1]


def test_a_text_ends_at_an_end_token_with_no_mask_before_it(place: Path) -> None:
    prompt = PROMPTS[0]
    with _generator(place, "llama", "confidence", 1) as generator:
        whole = generator.generate(prompt, max_new_tokens=9).token_ids
        end = whole[2]
        found = generator.generate(prompt, max_new_tokens=9, stop_token_ids=[end], trace=True)
    rounds = unmask(llama_logits, prompt + [MASK] * 9, PLANS["confidence"])
    last = whole.index(end) + len(prompt)
    # The round after which nothing up to there is masked.
    needed = 1 + max(number for number, one in enumerate(rounds) if any(at <= last for at in one))
    assert found.token_ids == whole[: whole.index(end) + 1] and found.finish_reason == "stop"
    assert len(found.trace) == needed < len(rounds)


def test_random_positions_are_equally_likely_and_depend_on_the_seed(place: Path) -> None:
    with _generator(place, "bert", "random", 3) as generator:
        texts = generator.generate([[5, MASK, MASK, MASK]] * 600, num_steps=3, seed=1, trace=True)
        assert generator.generate(INFILLED[0]).seed != generator.generate(INFILLED[0]).seed
    orders = Counter(tuple(next(iter(one)) for one in _rounds(text)) for text in texts)
    assert chi_square(orders, dict.fromkeys(itertools.permutations((1, 2, 3)), 1 / 6)) > 1e-4


def test_check_passes_with_a_policy_that_draws(place: Path) -> None:
    with _generator(place, "bert", "random", 3) as generator:
        reports = check_bundle(generator.bundle.path)
    assert len(reports) > 2 and all(report.passed for report in reports), [one.divergences for one in reports]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """A masked LM of six tokens, and a bundle that samples them."""
    config = BertConfig(vocab_size=6, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    model = lively(BertForMaskedLM(config), scale=9.0)
    plan: DecodePlan = replace(
        masked_diffusion(MASK),
        canvas=CanvasPlan(MASK, 2, policy=PolicyPlan(sampled=True, confidence_of=ConfidenceOf.SAMPLED)),
    )
    bundle = export({"denoiser": model}, plan, tmp_path_factory.mktemp("small") / "bundle")
    build(bundle, BuildOptions(precision="float32", batch_size=8, max_length=8, stage=Stage.PREPARE))
    return model, bundle


@torch.no_grad()
def _q(model: Any, text: list[int], temperature: float) -> torch.Tensor:
    logits = model(input_ids=torch.tensor([text])).logits[0].double()
    logits[:, MASK] = -torch.inf
    q: torch.Tensor = (logits / temperature).softmax(-1)
    return q


def _pairs(model: Any, temperature: float, rounds: int) -> dict[tuple[int, ...], float]:
    """The exact distribution of two new tokens: in two rounds, of two samples the more probable one is kept."""
    first, second = _q(model, [1, 2, MASK, MASK], temperature)[2:].tolist()
    found: dict[tuple[int, ...], float] = defaultdict(float)
    for (a, p), (b, q) in itertools.product(enumerate(first), enumerate(second)):
        if rounds == 1:
            found[a, b] += p * q
        elif p >= q:
            for other, share in enumerate(_q(model, [1, 2, a, MASK], temperature)[3].tolist()):
                found[a, other] += p * q * share
        else:
            for other, share in enumerate(_q(model, [1, 2, MASK, b], temperature)[2].tolist()):
                found[other, b] += p * q * share
    return found


def test_sampled_tokens_have_the_exact_distribution(small: tuple[Any, Path]) -> None:
    model, bundle = small
    with Generator(bundle) as generator:
        one = generator.generate([[1, 2]] * 2000, max_new_tokens=1, temperature=0.7, seed=5)
        two = generator.generate([[1, 2]] * 4000, max_new_tokens=2, temperature=1.3, seed=9)
        assert generator.generate([1, 2], max_new_tokens=2, temperature=1.3, seed=11).token_ids == two[2].token_ids
    single = {(token,): float(p) for token, p in enumerate(_q(model, [1, 2, MASK], 0.7)[2])}
    assert chi_square(Counter(tuple(text.token_ids) for text in one), single) > 1e-4
    pairs = Counter(tuple(text.token_ids) for text in two)
    assert chi_square(pairs, _pairs(model, 1.3, rounds=2)) > 1e-4
    # The test tells these apart from other rules.
    assert chi_square(pairs, _pairs(model, 1.3, rounds=1)) < 1e-6
    assert chi_square(pairs, _pairs(model, 1.1, rounds=2)) < 1e-6


@pytest.mark.parametrize(
    ("policy", "options", "said"),
    [
        ("random", {"threshold": 0.5}, ["the policy 'random' of this bundle has none"]),
        ("confidence", {"threshold": 1.5}, ["threshold is 1.5", "takes one from 0 to 1"]),
        ("confidence", {"threshold": -0.5, "num_steps": 70000}, ["threshold is -0.5", "from 1 to 65536"]),
        ("confidence", {"num_steps": 0}, ["num_steps is 0; it must be 1 or more"]),
        ("random", {"temperature": 0.5}, ["takes the likeliest tokens", "--sampling"]),
        ("confidence", {"temperature": 0.5, "top_k": 3, "repetition_penalty": 1.1}, ["without top_k", "no penalties"]),
    ],
)
def test_what_a_canvas_does_not_have_is_refused(
    policy: str, options: dict[str, Any], said: list[str], place: Path
) -> None:
    with _generator(place, "llama", policy, 1) as generator, pytest.raises(UsageError) as raised:
        generator.generate([5, 6], max_new_tokens=3, **options)
    for text in said:
        assert text in raised.value.message


def _command(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    return json.loads(result.stdout) | {"exit_code": result.exit_code}


def test_the_commands_take_policy_schedule_steps_and_threshold(tmp_path: Path) -> None:
    model, bundle = tmp_path / "model", tmp_path / "bundle"
    tiny_bert().save_pretrained(model)
    words(pad_token="<pad>", cls_token="<cls>", sep_token="<sep>", mask_token="<mask>").save_pretrained(model)
    policy = ("--policy", "entropy", "--threshold", "2", "--schedule", "cosine", "--num-steps", "8", "--sampling")
    exported = _command("export", model, "-o", bundle, *policy, "--stop", "eos")
    assert exported["exit_code"] == 0, exported
    canvas = json.loads((bundle / "manifest.json").read_text())["plan"]["canvas"]
    assert canvas["policy"] == {"kind": "entropy", "threshold": 2, "sampled": True, "confidence_of": "model"}
    assert (canvas["schedule"], canvas["stop"], canvas["num_steps"]) == ("cosine", "eos", 8)
    shown = CliRunner().invoke(app, ["inspect", str(bundle)]).stdout
    assert "entropy, threshold 2, samples; cosine, up to 8 rounds for a canvas" in shown
    assert _command("build", bundle, "--precision", "float32", "--max-length", "40")["exit_code"] == 0
    run = ("run", bundle, "--prompt-ids", "9,10,11", "--max-new-tokens", "9")
    plan = PLANS["entropy"]
    for options, changed in (
        ((), plan),
        (("--num-steps", "2"), replace(plan, num_steps=2)),
        (("--threshold", "0.5"), replace(plan, policy=replace(plan.policy, threshold=0.5))),
    ):
        shown, expected = _command(*run, *options), unmask(bert_logits, [9, 10, 11, *[MASK] * 9], changed)
        assert shown["token_ids"] == [token for _, token in sorted(at for one in expected for at in one.items())]
        assert (shown["stats"]["rounds"], shown["seed"]) == (len(expected), None)
    sampled = [_command(*run, "--temperature", "1", "--seed", seed)["token_ids"] for seed in (1, 1, 2)]
    assert sampled[0] == sampled[1] != sampled[2]
    refused = _command(*run, "--threshold", "-7")
    assert refused["exit_code"] == 2 and "from 0 to 1000" in refused["error"]["message"]
