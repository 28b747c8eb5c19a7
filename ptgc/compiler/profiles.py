"""Which shapes a build may run."""

from __future__ import annotations

from ptgc.errors import BuildError
from ptgc.spec.manifest import ModelFacts
from ptgc.spec.plan import DecodePlan
from ptgc.spec.shapes import ShapePlan

DEFAULT_MAX_LENGTH = 1024
PREFILL_WIDTHS = (32, 64, 128)
_VERIFY_WIDTHS = (1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, 64)
_BATCH_WIDTHS = (1, 2, 4, 8, 16, 32, 64)
_FIRST_LENGTH = 512


def shape_plan(
    plan: DecodePlan, model: ModelFacts, max_length: int | None, batch_size: int, *, pays_for_capacity: bool
) -> ShapePlan:
    """The shapes for a plan on a model.

    Args:
        plan: The loop; the size of its tree is the widest round that is verified.
        model: Its context length bounds every sequence.
        max_length: Tokens of one sequence, prompt and text; None takes 1024 or the context, whichever is less.
        batch_size: Sequences that step together.
        pays_for_capacity: Whether a round costs more in a larger cache; then there are several capacities.

    Raises:
        BuildError: Numbers out of range.
    """
    length = min(DEFAULT_MAX_LENGTH, model.context_length) if max_length is None else max_length
    if not 2 <= length <= model.context_length:
        raise BuildError(
            f"--max-length is {length}; this model has a context of {model.context_length} tokens.",
            f"Choose a length from 2 to {model.context_length}.",
        )
    if not 1 <= batch_size <= 256:
        raise BuildError(f"--batch-size is {batch_size}.", "Choose a number from 1 to 256.")
    nodes = plan.tree.num_nodes
    steps = _VERIFY_WIDTHS if batch_size == 1 else _BATCH_WIDTHS
    verify = sorted({width for width in steps if width < nodes} | {1, nodes})
    prefill = [width for width in PREFILL_WIDTHS if width > nodes]
    if nodes < 8:
        prefill = [8, 16, *prefill]
    widths = tuple(dict.fromkeys([*verify, *prefill]))
    slack = widths[-1]
    lengths = [length]
    if pays_for_capacity:
        lengths = [size for size in _doublings() if size < length] + [length]
    return ShapePlan(batch_size, length, widths, nodes, tuple(size + slack for size in lengths))


def _doublings() -> list[int]:
    return [_FIRST_LENGTH << power for power in range(12)]
