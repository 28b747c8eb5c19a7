"""Tiny heads that are right at times, in the layouts of public checkpoints, and the papers' loops in plain PyTorch."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, gelu, silu
from transformers import LlamaModel

from ptgc.exporters.modules.hydra import HydraHeads
from ptgc.exporters.modules.medusa import MedusaHeads
from ptgc.exporters.modules.mlp_speculator import MlpSpeculator
from ptgc.spec.tree import TreeSpec
from tests.models import VOCAB_SIZE, greedy, prompt, tiny_model

HIDDEN, NUM_HEADS, INNER = 64, 3, 48
Tensors = dict[str, Tensor]
States = Callable[[Sequence[int]], Tensor]
_LENGTHS, _TOKENS = (1, 5, 40), 48


@cache
def prefix() -> LlamaModel:
    """A layer that prepares the target's states, with random weights."""
    torch.manual_seed(4)
    config = copy.deepcopy(tiny_model("llama").config)
    config.num_hidden_layers = 1
    made: LlamaModel = LlamaModel(config).eval().requires_grad_(False)
    for parameter in made.parameters():
        if parameter.ndim > 1:
            parameter.mul_(8)
    return made


@torch.no_grad()
def prepared(ids: Sequence[int]) -> Tensor:
    """What that layer makes of every token's state, `[1, num_tokens, hidden]`."""
    states: Tensor = prefix()(inputs_embeds=states_of(ids), use_cache=False).last_hidden_state
    return states


@torch.no_grad()
def states_of(ids: Sequence[int]) -> Tensor:
    """What the tiny llama's own head reads of every token, `[1, num_tokens, hidden]`."""
    states: Tensor = tiny_model("llama").model(torch.tensor([list(ids)])).last_hidden_state
    return states


def _logits(heads: Any, ids: Sequence[int], read: States) -> Iterator[Tensor]:
    """What every head says behind every token that has enough followers, `[num_tokens, vocab]`."""
    count = len(ids) - NUM_HEADS - 1
    states = read(ids)[:, :count]
    if isinstance(heads, MedusaHeads):
        yield from heads(states[0][:, None]).transpose(0, 1)
        return
    rows = heads.begin(states)
    for head in range(NUM_HEADS):
        rows, logits = heads.step(head, rows, torch.tensor([ids[1 + head : 1 + head + count]]))
        yield logits[0]


def _taught(heads: Any, steps: int, read: States = states_of) -> Any:
    """Heads that know by heart some of what the tiny llama writes behind prompts of the tests."""
    texts = [[*one, *greedy(tiny_model("llama"), one, _TOKENS)] for one in map(prompt, _LENGTHS)]
    learnt = [one for name, one in heads.named_parameters() if not name.startswith("embedding")]
    optimizer = torch.optim.AdamW(learnt, lr=3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        for ids in texts:
            count = len(ids) - NUM_HEADS - 1
            wanted = [torch.tensor(ids[2 + head : 2 + head + count]) for head in range(NUM_HEADS)]
            losses = [cross_entropy(one, right) for one, right in zip(_logits(heads, ids, read), wanted, strict=True)]
            torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]  # torch has no type for it
        optimizer.step()
    return heads.eval().requires_grad_(False)


@cache
def medusa_heads() -> MedusaHeads:
    """Heads of two layers that do not read drafts."""
    torch.manual_seed(1)
    made: MedusaHeads = _taught(MedusaHeads(HIDDEN, VOCAB_SIZE, NUM_HEADS, 2), 16)
    return made


def hydra_heads(*, has_prefix: bool = False) -> HydraHeads:
    """Heads of two layers that read drafts, with the target's embedding."""
    return _hydra_heads(has_prefix)


@cache
def _hydra_heads(has_prefix: bool) -> HydraHeads:
    torch.manual_seed(2)
    heads = HydraHeads(tiny_model("llama").get_input_embeddings(), NUM_HEADS, 2)
    made: HydraHeads = _taught(heads, 8, prepared) if has_prefix else _taught(heads, 16)
    return made


def mlp_speculator(*, ties_weights: bool = False, scales_input: bool = False) -> MlpSpeculator:
    """A speculator with a state that is smaller than the target's."""
    return _mlp_speculator(ties_weights, scales_input)


@cache
def _mlp_speculator(ties_weights: bool, scales_input: bool) -> MlpSpeculator:
    torch.manual_seed(3)
    sizes = (HIDDEN, INNER, VOCAB_SIZE, NUM_HEADS)
    made: MlpSpeculator = _taught(MlpSpeculator(*sizes, ties_weights=ties_weights, scales_input=scales_input), 30)
    return made


def medusa_tensors() -> Tensors:
    """As FasterDecoding/Medusa names them."""
    named = {}
    for name, tensor in medusa_heads().state_dict().items():
        kind, head, *rest = name.split(".")
        named[f"{head}.{'.'.join(rest) if kind == 'blocks' else '2.weight'}"] = tensor
    return named


def hydra_tensors(*, has_prefix: bool = False) -> Tensors:
    """As zankner/Hydra names them; behind a prefix layer, each part of a head follows a dropout."""
    named = {"input_embed_fn.weight": tiny_model("llama").get_input_embeddings().weight.detach()}
    for name, tensor in hydra_heads(has_prefix=has_prefix).state_dict().items():
        kind, head, *rest = name.split(".")
        if kind == "embedding":
            continue
        if has_prefix:
            rest = [str(2 * int(rest[0]) + 1), *rest[1:]] if kind == "blocks" else ["1", *rest]
        named[".".join(["hydra_mlp" if kind == "blocks" else "hydra_lm_head", head, *rest])] = tensor
    layer = prefix().state_dict() if has_prefix else {}
    if has_prefix:  # as older attention saved it
        layer = {**layer, "layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
    return named | {f"prefix_embeding_layer.{name}": tensor for name, tensor in layer.items()}


def speculator_tensors(**options: bool) -> Tensors:
    """As fms-extras names them."""
    return {f"speculator.{name}": tensor for name, tensor in mlp_speculator(**options).state_dict().items()}


MEDUSA_SETTINGS: dict[str, Any] = {"medusa_num_heads": 2, "medusa_num_layers": 2, "base_model_name_or_path": "llama"}
"""As published ones, which name too few heads."""
HYDRA_SETTINGS: dict[str, Any] = {"hydra_num_heads": 3, "hydra_num_layers": 2, "grounded_heads": True}
SPECULATOR_SETTINGS: dict[str, Any] = {"n_predict": 3, "emb_dim": HIDDEN, "inner_dim": INNER, "vocab_size": VOCAB_SIZE}


Score = Callable[[list[int]], Tensor]
"""Logits `[vocab]` behind the last token and some drafts."""


def medusa_score(state: Tensor, _last: int, changed: Tensors | None = None) -> Score:
    """Medusa, section 2.1: only the number of drafts counts."""
    given = medusa_tensors() | (changed or {})

    def score(drafts: list[int]) -> Tensor:
        head, row = len(drafts), state
        for layer in range(2):
            weight, bias = (given[f"{head}.{layer}.linear.{part}"] for part in ("weight", "bias"))
            row = row + silu(weight @ row + bias)
        return given[f"{head}.2.weight"] @ row

    return score


def hydra_score(state: Tensor, last: int, *, has_prefix: bool = False) -> Score:
    """Hydra, section 3: a head reads the state and all tokens behind it."""
    given = hydra_tensors(has_prefix=has_prefix)
    first, second, behind = ("1", "3", ".1") if has_prefix else ("0", "1", "")

    def linear(name: str, row: Tensor) -> Tensor:
        return given[f"{name}.weight"] @ row + given[f"{name}.bias"]

    def score(drafts: list[int]) -> Tensor:
        head = f"hydra_mlp.{len(drafts)}"
        read = torch.cat([state, *(given["input_embed_fn.weight"][token] for token in [last, *drafts])])
        row = linear(f"{head}.{first}.res_connection", read) + silu(linear(f"{head}.{first}.linear", read))
        row = row + silu(linear(f"{head}.{second}.linear", row))
        return linear(f"hydra_lm_head.{len(drafts)}{behind}", row)

    return score


def speculator_score(state: Tensor, last: int, *, ties_weights: bool = False, scales_input: bool = False) -> Score:
    """Wertheimer et al., section 3: a state that takes in the last token, then draft by draft."""
    given = speculator_tensors(ties_weights=ties_weights, scales_input=scales_input)
    kept = 0.5 ** (0.5 / NUM_HEADS)
    share = math.sqrt((1 - kept**2) * (INNER / 2))

    def normalized(row: Tensor) -> Tensor:
        return row / torch.sqrt(row.square().mean() + 1e-6)

    def score(drafts: list[int]) -> Tensor:
        row = normalized(state) / math.sqrt(2) if scales_input else state
        for step, token in enumerate([last, *drafts]):
            own, proj = (0, min(step, 1)) if ties_weights else (step, step)
            mixed = given[f"speculator.proj.{proj}.weight"] @ row * kept
            mixed = (mixed + share * given[f"speculator.emb.{own}.weight"][token]) / kept
            scale, shift = (given[f"speculator.ln.{own}.{part}"] for part in ("weight", "bias"))
            row = gelu(normalized(mixed) * scale + shift)
        return given[f"speculator.head.{0 if ties_weights else len(drafts)}.weight"] @ row

    return score


SCORES: dict[str, Callable[[Tensor, int], Score]] = {
    "medusa": medusa_score,
    "hydra": hydra_score,
    "mlp-speculator": speculator_score,
}


def drafts(
    score: Callable[[Tensor, int], Score], ids: list[int], tree: TreeSpec, read: States = states_of
) -> list[int]:
    """What heads draft behind a text whose last token the target has not read, node by node."""
    behind = score(read(ids[:-1])[0, -1], ids[-1])
    paths: list[list[int]] = [[]]
    for node in range(1, tree.num_nodes):
        above = paths[tree.parents[node]]
        order = behind(above).argsort(descending=True, stable=True)
        paths.append([*above, int(order[tree.ranks[node]])])
    return [path[-1] for path in paths[1:]]


def modules(strategy: str) -> dict[str, nn.Module]:
    """The modules of a strategy by role."""
    made: dict[str, Callable[[], nn.Module]] = {
        "medusa": medusa_heads,
        "hydra": hydra_heads,
        "mlp-speculator": mlp_speculator,
    }
    return {"target": tiny_model("llama"), "heads": made[strategy]()}
