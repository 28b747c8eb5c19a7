"""Sampled texts of a generator against the exact distribution of their target.

`python -m tests.runtime.sampled_texts` compares 50,000 texts for every setting.
"""

from __future__ import annotations

import copy
import itertools
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.exporters import export
from ptgc.exporters.modules.dflash import DFlashDrafter, StateProjection
from ptgc.exporters.modules.eagle3 import Eagle3Drafter
from ptgc.exporters.modules.hydra import HydraHeads
from ptgc.exporters.modules.medusa import MedusaHeads
from ptgc.exporters.modules.tap import Tap
from ptgc.exporters.strategies.layer_skip import first_layers
from ptgc.runtime import Generator
from ptgc.runtime.costs import CostCurve, RoundCost, write_costs
from ptgc.spec.plan import DecodePlan
from ptgc.spec.strategies.autoregressive import autoregressive
from ptgc.spec.strategies.dflash import dflash
from ptgc.spec.strategies.draft_model import draft_model
from ptgc.spec.strategies.eagle3 import eagle3
from ptgc.spec.strategies.hydra import hydra
from ptgc.spec.strategies.jacobi import jacobi
from ptgc.spec.strategies.layer_skip import layer_skip
from ptgc.spec.strategies.lookahead import lookahead
from ptgc.spec.strategies.medusa import medusa
from ptgc.spec.strategies.merged import Lookup, with_lookup
from ptgc.spec.strategies.ngram import ngram
from ptgc.spec.strategies.pard import pard
from ptgc.spec.strategies.recycling import recycling
from ptgc.spec.strategies.suffix import suffix
from ptgc.spec.tree import TreeSpec

VOCAB_SIZE, DRAFTS, NEW_TOKENS = 8, 3, 3
TREE = TreeSpec((-1, 0, 0, 1, 1, 2, 3))
PART = TreeSpec((-1, 0, 1, 2, 0))
"""A part of TREE whose nodes are not in the order of their depths."""
PROMPT = [1, 2, 3, 1, 2, 3, 1, 2]
"""A prompt that repeats itself, so that there are n-gram drafts from the first new token on."""
_FEWEST = 5.0
"""Outcomes expected less often than this are merged into one."""


@dataclass(frozen=True)
class Setting:
    """One way to sample texts."""

    strategy: str
    rule: str = "match"
    temperature: float = 1.0
    draft_length: str = "fixed"
    batch: int = 1
    part: TreeSpec | None = None
    """A part of the plan's tree that drafts fill."""

    @property
    def plain_tokens(self) -> int:
        """Tokens that are written before there are drafts: some drafters need states of an earlier round.

        With overlap, they leave room for rounds of one draft, some of which was made ahead.
        """
        return 2 if self.strategy == "overlap" else int(self.strategy.startswith(("medusa", "eagle3")))

    def __str__(self) -> str:
        part = "-part" if self.part else ""
        return f"{self.strategy}{part}-{self.rule}-{self.temperature}-{self.draft_length}-{self.batch}"


def all_settings() -> Iterator[Setting]:
    """Every rule, temperature, choice of draft lengths and batch, of every strategy that samples."""
    temperatures, batches = (0.7, 1.0, 1.3), (1, 4)
    for temperature, batch in itertools.product(temperatures, batches):
        yield Setting("autoregressive", temperature=temperature, batch=batch)
    names = (
        *("ngram", "suffix", "recycling", "jacobi", "draft-model", "overlap", "merged", "layer-skip", "pard"),
        *("medusa", "hydra", "eagle3", "dflash"),
    )
    chains = itertools.product(names, ("match", "speculative", "block"))
    filling = ("tree", "eagle3-tree", "medusa-tree", "pard-tree")
    trees = itertools.product((*filling, "dynamic", "dynamic-pard", "lookahead"), ("match", "speculative"))
    for strategy, rule in [*chains, *trees]:
        for temperature, length, batch in itertools.product(temperatures, ("measured", "fixed"), batches):
            yield Setting(strategy, rule, temperature, length, batch)
            if strategy in filling:
                yield Setting(strategy, rule, temperature, length, batch, PART)


@cache
def target() -> Any:
    """A model with a few tokens, all of which have moderate probability everywhere."""
    return _random_model(3)


@cache
def drafter() -> Any:
    """A model that agrees with the target by chance."""
    return _random_model(4)


@cache
def near_target() -> Any:
    """The target with noise: it often guesses the tokens that the target adds to its drafts."""
    model = copy.deepcopy(target())
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * parameter.std() * 0.3 if parameter.ndim == 2 else 0.0)
    return model


def _random_model(seed: int) -> Any:
    torch.manual_seed(seed)
    shape: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2}
    shape |= {"num_attention_heads": 2, "max_position_embeddings": 64}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=VOCAB_SIZE, bos_token_id=None, eos_token_id=None, **shape))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2:
                parameter.mul_(20 if "self_attn" in name else 10)
        model.lm_head.weight.mul_(2)
    return model.eval()


def state_reader() -> Any:
    """An EAGLE-3 drafter that knows nothing, and drafts most of the tokens."""
    torch.manual_seed(6)
    shape: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = LlamaConfig(vocab_size=VOCAB_SIZE, num_attention_heads=2, max_position_embeddings=64, **shape)
    made = Eagle3Drafter(config, Tap((0, 1), nn.Linear(32, 16, bias=False)), [0, 1, 2, 4, 5, 7])
    with torch.no_grad():
        made.lm_head.weight.mul_(30)  # none of them certain or hopeless anywhere
    return made.eval()


def block_reader() -> Any:
    """A DFlash drafter that knows nothing."""
    torch.manual_seed(6)
    shape: dict[str, Any] = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "head_dim": 8}
    heads: dict[str, Any] = {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64}
    config = Qwen3Config(vocab_size=VOCAB_SIZE, **shape, **heads)
    taps = Tap((1, 2), StateProjection(32, 16, 1e-6))
    made = DFlashDrafter(config, taps, target().get_input_embeddings(), nn.Linear(16, VOCAB_SIZE, bias=False))
    return made.eval().requires_grad_(False)


def plan(strategy: str) -> DecodePlan:
    """The plan of a strategy, as its exporter makes it."""
    plans = {
        "autoregressive": autoregressive,
        "ngram": lambda: ngram(DRAFTS),
        "draft-model": lambda: draft_model(DRAFTS),
        "overlap": lambda: draft_model(1, overlap=True),
        "tree": lambda: draft_model(tree=TREE),
        "dynamic": lambda: replace(draft_model(tree=TREE), dynamic_tree=True),
        "layer-skip": lambda: layer_skip(1, DRAFTS),
        "medusa": lambda: medusa(TreeSpec.chain(DRAFTS)),
        "medusa-tree": lambda: medusa(TREE),
        "eagle3": lambda: eagle3(DRAFTS),
        "eagle3-tree": lambda: eagle3(tree=TREE),
        "hydra": lambda: hydra(TreeSpec.chain(DRAFTS)),
        "dflash": lambda: dflash(DRAFTS + 1, 7),
        "pard": lambda: pard(7, DRAFTS),
        "pard-tree": lambda: pard(7, tree=TREE),
        "dynamic-pard": lambda: replace(pard(7, tree=TREE), dynamic_tree=True),
        "recycling": lambda: recycling(4, TreeSpec.chain(DRAFTS)),
        "jacobi": lambda: jacobi(DRAFTS),
        "lookahead": lambda: lookahead(2, 2, 2),
        "suffix": lambda: suffix(DRAFTS),
        "merged": lambda: with_lookup(draft_model(DRAFTS), Lookup.NGRAM),
    }
    made: DecodePlan = plans[strategy]()
    return made


def roles_of(strategy: str) -> dict[str, Any]:
    """The modules of a strategy; drafters are independent of the target unless they are part of it."""
    made = {"target": target()}
    if strategy in ("draft-model", "merged", "tree", "dynamic", "pard", "pard-tree", "dynamic-pard"):
        made["drafter"] = drafter()
    if strategy == "overlap":
        made["drafter"] = near_target()
    if strategy == "layer-skip":
        made["drafter"] = first_layers(target(), 1)
    if strategy in ("medusa", "medusa-tree"):
        torch.manual_seed(5)
        made["heads"] = MedusaHeads(16, VOCAB_SIZE, DRAFTS).eval()
    if strategy in ("eagle3", "eagle3-tree"):
        made["drafter"] = state_reader()
    if strategy == "hydra":
        torch.manual_seed(5)
        made["heads"] = HydraHeads(target().get_input_embeddings(), DRAFTS).eval()
    if strategy == "dflash":
        made["drafter"] = block_reader()
    return made


@cache
def bundle(place: Path, strategy: str, batch: int) -> Path:
    """A bundle with a build whose measured costs make drafts pay only sometimes."""
    roles = roles_of(strategy)
    path = export(roles, plan(strategy), place / f"sampled-{strategy}-{batch}")
    options = BuildOptions(precision="float32", batch_size=batch, max_length=32, stage=Stage.PREPARE)
    made = build(path, options)
    widths = made.manifest.shapes.roles["target"].widths
    rounds = {width: RoundCost(1.0 + 0.15 * width, 1.0, 2.0, 9) for width in widths}
    drafted = {width: RoundCost(0.1, 0.1, 0.1, 9) for width in widths}
    write_costs(made, CostCurve(1, 8, rounds, drafted if "drafter" in roles else {}))
    return path


def probabilities(temperature: float, plain_tokens: int = 0) -> dict[tuple[int, ...], float]:
    """Probability of every end of `NEW_TOKENS` tokens after `plain_tokens` others, computed by PyTorch."""
    texts: dict[tuple[int, ...], float] = {(): 1.0}
    for _ in range(plain_tokens + NEW_TOKENS):
        ids = torch.tensor([PROMPT + list(text) for text in texts])
        with torch.no_grad():
            logits = target()(ids).logits[:, -1].double()
        rows = torch.softmax(logits / temperature, -1).tolist()
        texts = {
            (*text, token): before * row[token]
            for (text, before), row in zip(texts.items(), rows, strict=True)
            for token in range(VOCAB_SIZE)
        }
    ends: dict[tuple[int, ...], float] = defaultdict(float)
    for text, probability in texts.items():
        ends[text[plain_tokens:]] += probability
    return ends


def chi_square(counts: Counter[tuple[int, ...]], expected: dict[tuple[int, ...], float]) -> float:
    """The p-value: the probability that texts from the expected distribution deviate at least this much."""
    total = sum(counts.values())
    statistic, cells = 0.0, 0
    rare_found, rare_expected = 0.0, 0.0
    for text, probability in expected.items():
        if probability * total < _FEWEST:
            rare_found, rare_expected = rare_found + counts[text], rare_expected + probability * total
            continue
        statistic += (counts[text] - probability * total) ** 2 / (probability * total)
        cells += 1
    if rare_expected >= _FEWEST:
        statistic += (rare_found - rare_expected) ** 2 / rare_expected
        cells += 1
    return float(torch.special.gammaincc(torch.tensor((cells - 1) / 2), torch.tensor(statistic / 2)))


@dataclass
class Drafts:
    """Draft tokens of many texts."""

    verified: int = 0
    """By the target."""
    kept: int = 0
    """Of those."""
    ahead: int = 0
    """Of those that were verified: made while others were."""


def count_texts(place: Path, setting: Setting, num_texts: int) -> tuple[Counter[tuple[int, ...]], Drafts]:
    """How often each text was written, without what came before the first drafts, and counts of drafts."""
    path = bundle(place, setting.strategy, setting.batch)
    counts: Counter[tuple[int, ...]] = Counter()
    drafts = Drafts()
    options: dict[str, Any] = {"draft_length": setting.draft_length, "acceptance": setting.rule, "tree": setting.part}
    if setting.strategy == "overlap":
        options["overlap"] = True
    with Generator(path, num_threads=1, **options) as generator:
        for first in range(0, num_texts, 1000):
            prompts = [PROMPT] * min(1000, num_texts - first)
            drawn = {"temperature": setting.temperature, "seed": first}
            longest = setting.plain_tokens + NEW_TOKENS
            for result in generator.generate(prompts, max_new_tokens=longest, **drawn):
                counts[tuple(result.token_ids[setting.plain_tokens :])] += 1
                drafts.verified += result.statistics.drafted_tokens
                drafts.kept += result.statistics.accepted_tokens
                drafts.ahead += result.statistics.ahead_used_tokens
    return counts, drafts


def main() -> None:
    """Print a line for each setting; exit with 1 if one fails."""
    lowest = 1.0
    with tempfile.TemporaryDirectory() as folder:
        for setting in all_settings():
            counts, drafts = count_texts(Path(folder), setting, 50_000)
            probability = chi_square(counts, probabilities(setting.temperature, setting.plain_tokens))
            lowest = min(lowest, probability)
            sys.stdout.write(f"{setting!s:45} p {probability:.4f}  {drafts}\n")
    sys.exit(lowest < 1e-4)


if __name__ == "__main__":
    main()
