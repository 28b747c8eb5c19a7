"""Fidelity: how much of a model's distribution a build has kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ptgc.compiler.build.float_roles import in_float32, is_half
from ptgc.compiler.graph_session import GraphSession, Logits
from ptgc.spec.bundle import Build, Bundle
from ptgc.spec.role import Role
from ptgc.spec.staging import scratch_directory

_CHUNK = 128  # rows whose logits are in memory at once


@dataclass(frozen=True)
class Fidelity:
    """A build's next-token distributions on a text, compared with those of the canonical graph in float32."""

    tokens: int
    """Positions compared; at each, both graphs have read the same text."""
    divergence: float
    """Kullback-Leibler divergence of the build from the original, in nats per token: sum of p (ln p - ln q)."""
    kept: float
    """Share of positions whose likeliest token is the original's."""
    perplexity: float
    """The build's perplexity on the text."""
    original_perplexity: float
    """The original's perplexity on the text."""

    def to_json(self) -> dict[str, float]:
        """This as `ptgc check --json` prints it."""
        return asdict(self)


@contextmanager
def float32_session(path: Path, role: Role, capacity: int) -> Iterator[GraphSession]:
    """A canonical graph in float32 on the CPU, which has no half-precision products.

    Args:
        path: The ONNX file.
        role: Its ports and states.
        capacity: Slots of the cache.
    """
    if not is_half(role):
        yield GraphSession(path, role, capacity)
        return
    from ptgc.graphs.passes.set_float_type import SetFloatTypePass
    from ptgc.graphs.storage import load, save

    model = load(path)
    SetFloatTypePass()(model)
    with scratch_directory() as folder:
        save(model, folder, "original")
        yield GraphSession(folder / "original.onnx", in_float32(role), capacity)


def role_fidelity(bundle: Bundle, build: Build, name: str, text: Sequence[Sequence[int]]) -> Fidelity | None:
    """The fidelity of one role of a build; None if there is no text.

    Args:
        bundle: The bundle; its canonical graph must be present.
        build: A build for one sequence.
        name: A role that is a language model on its own.
        text: Sequences within the build's length, each of two tokens or more.
    """
    if not text:
        return None
    role, canonical = build.manifest.roles[name], bundle.manifest.roles[name]
    capacity = max(map(len, text))
    with float32_session(bundle.path / canonical.graph, canonical, capacity) as original:
        return measure_fidelity(original, GraphSession(build.path / role.graph, role, capacity), text)


def measure_fidelity(original: GraphSession, built: GraphSession, text: Sequence[Sequence[int]]) -> Fidelity:
    """Compare two graphs of one model on the same text.

    Args:
        original: The canonical graph.
        built: The build's prepared graph.
        text: Sequences of tokens, none longer than the sessions' caches; each of two tokens or more.
    """
    divergence = kept = surprise = original_surprise = 0.0
    count = 0
    for sequence in text:
        for before, after, next_ids in _rows(original, built, sequence):
            wanted, given = _log_probabilities(before), _log_probabilities(after)
            rows = np.arange(len(next_ids))
            divergence += float((np.exp(wanted) * (wanted - given)).sum())
            kept += int((wanted.argmax(axis=1) == given.argmax(axis=1)).sum())
            original_surprise -= float(wanted[rows, next_ids].sum())
            surprise -= float(given[rows, next_ids].sum())
            count += len(next_ids)
    return Fidelity(
        tokens=count,
        divergence=divergence / count,
        kept=kept / count,
        perplexity=math.exp(surprise / count),
        original_perplexity=math.exp(original_surprise / count),
    )


def _rows(
    original: GraphSession, built: GraphSession, sequence: Sequence[int]
) -> Iterator[tuple[Logits, Logits, NDArray[np.int64]]]:
    """Logits of both graphs, chunk by chunk, and the token that follows each position."""
    original.reset()
    built.reset()
    for start in range(0, len(sequence) - 1, _CHUNK):
        stop = min(start + _CHUNK, len(sequence) - 1)
        part = sequence[start:stop]
        rows = original.forward(part), built.forward(part)
        original.commit(len(part))
        built.commit(len(part))
        yield *rows, np.array(sequence[start + 1 : stop + 1])


def _log_probabilities(logits: Logits) -> NDArray[np.float64]:
    """`ln softmax` of every row."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    found: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return found
