"""Every loop in numpy, one text at a time; a role is a function from the values of its input ports to its outputs.

All loops are compared with this module: `ptgc check` runs it on graphs, and export on the PyTorch modules.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ptgc.graphs.canvas.reference_loop import fill
from ptgc.spec import ports
from ptgc.spec.acceptance import AcceptanceRule, RelaxedAcceptance, TypicalAcceptance
from ptgc.spec.edit import EditPlan
from ptgc.spec.plan import DecodePlan

Values = dict[str, NDArray[Any]]
RoleCall = Callable[[Values], Values]
Roles = Mapping[str, RoleCall]


@dataclass(frozen=True)
class WrittenText:
    """The text that a loop wrote."""

    token_ids: list[int]
    """The text: for a canvas all of it, for an edited text the tokens between begin and end."""
    rounds: int
    """Number of rounds until it ended."""
    largest: int
    """Largest length of its canvas; any canvas that holds this many tokens gives the same text."""


def write(roles: Roles, plan: DecodePlan, given: Sequence[int], longest: int) -> WrittenText:
    """One text of any loop except the speculative one.

    Args:
        roles: The roles of the plan.
        plan: The loop and its policies.
        given: The user's input: a canvas with masks, or a source.
        longest: Tokens that a growing canvas can hold.
    """
    if plan.canvas is not None:
        ids, rounds = fill(roles["denoiser"], plan.canvas, given)
        return WrittenText(ids, rounds, len(given))
    if plan.edit is not None:
        return _edit(roles, plan.edit, given, longest)
    text = _kept(roles["decoder"](encode(roles["encoder"], given)))
    return WrittenText(text, 1, len(text))


def write_greedily(
    target: RoleCall, prompt: Sequence[int], count: int, ends: Collection[int]
) -> tuple[list[int], NDArray[np.float32]]:
    """Plain text of the speculative loop: repeatedly the most likely token after everything read so far.

    Args:
        target: Reads `input_ids` after all it was given before, and returns `logits`.
        prompt: The beginning of the text.
        count: Maximum number of tokens.
        ends: Tokens that end a text.

    Returns:
        The new tokens, and the logits that each was chosen from, `[tokens, vocab]`.
    """
    found: list[NDArray[np.float32]] = []
    text, unread = list[int](), list(prompt)
    while len(found) < count and not (text and text[-1] in ends):
        logits = target({ports.INPUT_IDS.name: np.array([unread], np.int64)})["logits"]
        found.append(logits[0, -1].astype(np.float32))
        unread = [int(found[-1].argmax())]
        text += unread
    return text, np.stack(found)


def accepts(plan: DecodePlan, logits: NDArray[Any], token: int, slack: float = 0.0) -> bool:
    """Whether a greedy text of a lossy rule may have a token: the likeliest one, or one that is accepted as a draft.

    Args:
        plan: The rule and its parameters.
        logits: The target's logits after the text before the token, `[vocab]`.
        token: The token.
        slack: Difference of log-probabilities that counts as rounding.
    """
    shifted = logits.astype(np.float64) - logits.max()
    log_p = shifted - np.log(np.exp(shifted).sum())
    given, best = log_p[token] + slack, log_p.max()
    if given >= best:
        return True
    if plan.acceptance is AcceptanceRule.TYPICAL:
        typical = plan.typical or TypicalAcceptance()
        p = np.exp(log_p)
        entropy = -float((p * np.where(p > 0, log_p, 0)).sum())
        return bool(np.exp(given) > min(typical.epsilon, typical.delta * np.exp(-entropy)))
    if plan.acceptance is AcceptanceRule.RELAXED:
        relaxed = plan.relaxed or RelaxedAcceptance()
        return bool((log_p > given).sum() < relaxed.top_k and best - given <= relaxed.margin)
    return False


def encode(encoder: RoleCall, source: Sequence[int]) -> Values:
    """The encoder's outputs for a source, under the names of the other roles' inputs."""
    ids = np.array([source], np.int64)
    mask = np.ones(ids.shape, np.bool_)
    made = encoder({ports.SOURCE_IDS.name: ids, ports.ENCODER_ATTENTION_MASK.name: mask})
    named = {name.replace("present.", "past_key_values.", 1): value for name, value in made.items()}
    return {**named, ports.ENCODER_ATTENTION_MASK.name: mask}


def _edit(roles: Roles, plan: EditPlan, given: Sequence[int], longest: int) -> WrittenText:
    """Run the operations in order until a round changes nothing."""
    read = encode(roles["encoder"], given) if "encoder" in roles else {}
    ids = plan.first_canvas(given)
    largest, rounds = len(ids), 0
    while rounds < plan.max_rounds:
        before, rounds = ids, rounds + 1
        for operation in plan.operations:
            canvas = np.full((1, max(longest, len(ids))), plan.pad_token_id, np.int64)
            canvas[0, : len(ids)] = ids
            lengths = np.array([len(ids)], np.int64)
            ids = _kept(roles[operation](read | {ports.CANVAS_IDS.name: canvas, ports.LENGTHS.name: lengths}))
            largest = max(largest, len(ids))
        if ids == before:
            break
    return WrittenText(ids[1:-1], rounds, largest)


def _kept(made: Values) -> list[int]:
    """The tokens of a role's output, without padding."""
    ids, lengths = made[ports.OUTPUT_IDS.name], made[ports.OUTPUT_LENGTHS.name]
    return [int(token) for token in ids[0, : int(lengths[0])]]
