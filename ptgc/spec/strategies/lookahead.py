"""lookahead: a window beside the text writes n-grams, and those that fit the text are drafts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from ptgc.spec.drafter import DrafterPlan
from ptgc.spec.fields import Range
from ptgc.spec.loop import Loop
from ptgc.spec.plan import DecodePlan, Guarantee
from ptgc.spec.strategies.base import CheckpointFacts, Strategy
from ptgc.spec.tree import TreeSpec

WindowSize = Annotated[int, Range(2, 64)]
"""Positions that the window looks ahead."""
NgramSize = Annotated[int, Range(2, 16)]
"""Tokens of an n-gram, its first one included."""
Branches = Annotated[int, Range(1, 64)]
"""N-grams that are verified together."""


@dataclass(frozen=True)
class LookaheadDrafter(DrafterPlan):
    """Runs a window of Jacobi iterations beside the text, and drafts their n-grams that begin with its last token."""

    kind: ClassVar[str] = "lookahead"

    window_size: WindowSize = 4
    """W of the paper: positions that the window looks ahead."""
    ngram_size: NgramSize = 3
    """N of the paper: tokens of an n-gram, its first one included."""
    num_branches: Branches = 4
    """G of the paper: most n-grams that are verified in a round."""

    @property
    def fills_tree(self) -> bool:
        """A window and its branches change their shapes."""
        return False

    def misfits(self, tree: TreeSpec) -> list[str]:
        """A tree without room for the window."""
        needed = round_tree(self.window_size, self.ngram_size, self.num_branches).num_nodes - 1
        if tree.is_chain:
            return ["drafter drafts trees; tree is none"]
        if min(tree.num_nodes - 1, self.num_draft_tokens) >= needed:
            return []
        return [f"drafter.num_draft_tokens and tree must have room for the {needed} tokens of a round"]


@dataclass(frozen=True)
class LookaheadOptions:
    """The sizes of a round: it has (N - 1)(W + G) rows."""

    window_size: WindowSize = 4
    """Positions that the window looks ahead, W."""
    ngram_size: NgramSize = 3
    """Tokens of an n-gram, its first one included, N."""
    num_branches: Branches = 4
    """Most n-grams that are verified in a round, G."""


def round_tree(window_size: int, ngram_size: int, num_branches: int) -> TreeSpec:
    r"""The nodes of a round: the branches, and the window.

    With W = 3, N = 3 and G = 1, where a is the branch, and b, c are the window's levels:

    ```
              root
            /  |   \
          a1   b1   c1         c1 is in the first column, c2 in that of b1
          |    | \
          a2   b2 c2
               |
               c3
    ```

    While the window is being filled, it has fewer levels and more columns. The tree has room for the largest window.
    """
    levels = max(range(1, ngram_size), key=lambda count: count * (window_size + ngram_size - 1 - count))
    columns = window_size + ngram_size - 1 - levels
    above: list[int] = [-1]
    for _ in range(num_branches):
        above += [0, *range(len(above), len(above) + ngram_size - 2)]
    last = [0, *range(len(above), len(above) + columns - 1)]
    above += last[:-1]
    for _ in range(levels - 1):
        first = len(above)
        above += last
        last = list(range(first, first + columns))
    return _by_depth(TreeSpec(tuple(above)))


def _by_depth(tree: TreeSpec) -> TreeSpec:
    """The same tree with its nodes in the order of their depths."""
    order = sorted(range(tree.num_nodes), key=lambda node: tree.depths[node])
    places = {node: place for place, node in enumerate(order)}
    return TreeSpec(tuple(places.get(tree.parents[node], -1) for node in order))


def lookahead(
    window_size: int = LookaheadOptions.window_size,
    ngram_size: int = LookaheadOptions.ngram_size,
    num_branches: int = LookaheadOptions.num_branches,
) -> DecodePlan:
    """N-grams from a window of Jacobi iterations are verified beside it."""
    tree = round_tree(window_size, ngram_size, num_branches)
    drafter = LookaheadDrafter(tree.num_nodes - 1, window_size, ngram_size, num_branches)
    return DecodePlan(STRATEGY.name, drafter=drafter, tree=tree)


def _plan(options: LookaheadOptions, _facts: CheckpointFacts) -> DecodePlan:
    return lookahead(options.window_size, options.ngram_size, options.num_branches)


STRATEGY = Strategy(
    name="lookahead",
    loop=Loop.SPECULATIVE,
    guarantee=Guarantee.LOSSLESS,
    summary="Lookahead decoding: the model writes n-grams beside its text, and drafts those that fit.",
    source="Lookahead decoding, Fu et al., arXiv 2402.02057, section 3",
    options=LookaheadOptions,
    plan=_plan,
    drafter=LookaheadDrafter,
    exporter="ptgc.exporters.strategies.causal:EXPORTER",
)
