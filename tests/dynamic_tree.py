"""Trees of the likeliest drafts, as EAGLE-2 and DDTree choose them, in plain Python."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ptgc.spec.tree import TreeSpec

Path = tuple[int, ...]


def dynamic_drafts(score: Callable[[Path], Tensor], tree: TreeSpec) -> list[Path]:
    """The paths of the drafts, likeliest first (EAGLE-2, arXiv 2406.16858, section 4).

    Args:
        score: Logits `[vocab]` after a path of drafts.
        tree: Its size and depth, and by its nodes with children how many are expanded at each depth.
    """
    depths, parents = tree.depths, set(tree.parents)
    widest = max(depths.count(depth) for depth in range(1, max(depths) + 1))
    found: list[tuple[float, Path]] = []
    expanded: list[tuple[float, Path]] = [(0.0, ())]
    for depth in range(max(depths)):
        children = []
        for value, path in expanded:
            best = score(path).log_softmax(-1).topk(widest)
            pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
            children += [(value + log_probability, (*path, token)) for log_probability, token in pairs]
        found += children
        width = sum(node in parents for node in range(tree.num_nodes) if depths[node] == depth + 1)
        expanded = sorted(children, key=lambda one: -one[0])[:width]
    return [path for _, path in sorted(found, key=lambda one: -one[0])[: tree.num_nodes - 1]]


def likeliest_paths(logits: Tensor, count: int) -> list[Path]:
    """The likeliest paths if the tokens of a block are independent (DDTree), likeliest first.

    Args:
        logits: `[depth, vocab]`.
        count: How many.
    """
    best = logits.log_softmax(-1).topk(min(count, logits.shape[-1]))
    found: list[tuple[float, Path]] = []
    above: list[tuple[float, Path]] = [(0.0, ())]
    for values, ids in zip(best.values.tolist(), best.indices.tolist(), strict=True):
        above = [(value + own, (*path, token)) for value, path in above for own, token in zip(values, ids, strict=True)]
        above = sorted(above, key=lambda one: -one[0])[:count]
        found += above
    return [path for _, path in sorted(found, key=lambda one: -one[0])[:count]]


def paths_of(parents: list[int], tokens: list[int]) -> list[Path]:
    """The path of every draft of a round, whose parents are numbered with the root as 0."""
    paths: list[Path] = [()]
    for parent, token in zip(parents, tokens, strict=True):
        paths.append((*paths[parent], token))
    return paths[1:]
