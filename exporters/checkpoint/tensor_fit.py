"""Whether the tensors of a checkpoint fit the model that its configuration describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ptgc.errors import CheckpointError

_LISTED = 6


def check_fit(source: str, name: str, report: Mapping[str, Any], *, allow_unexpected: bool = False) -> None:
    """Refuse tensors that do not fit, by name.

    Args:
        source: The checkpoint, or what was loaded, for the message.
        name: Class of the model.
        report: What transformers reported on loading.
        allow_unexpected: Whether tensors that the model does not use are allowed.

    Raises:
        CheckpointError: Tensors are missing, of another shape, or not used by the model.
    """
    mismatched = sorted((str(key), list(found), list(wanted)) for key, found, wanted in report["mismatched_keys"])
    shapes = [f"{key} is {found}, the configuration says {wanted}" for key, found, wanted in mismatched]
    missing = _names(report["missing_keys"])
    unexpected = [] if allow_unexpected else _names(report["unexpected_keys"])
    problems = [_listed("of another shape", shapes)] if shapes else []
    if missing:
        problems.append(f"the weights lack {len(missing)} tensors, {_listed('missing', missing)}")
    if unexpected:
        problems.append(_listed("unexpected", unexpected))
    problems += [str(message) for message in report.get("error_msgs") or ()]
    if problems:
        raise CheckpointError(
            f"Cannot load {source}: its tensors do not fit {name}: {'; '.join(problems)}.",
            "Check that config.json and the weights are of one model; after a vocabulary was resized, vocab_size must "
            "say so.",
        )


def unused_tensors(report: Mapping[str, Any]) -> str | None:
    """A note about tensors that the model does not use; None if there are none."""
    unexpected = _names(report["unexpected_keys"])
    if not unexpected:
        return None
    return f"the architecture has no place for {len(unexpected)} tensors, {_listed('unused', unexpected)}"


def _names(keys: Any) -> list[str]:
    return sorted(map(str, keys))


def _listed(kind: str, entries: list[str]) -> str:
    more = f" and {len(entries) - _LISTED} more" if len(entries) > _LISTED else ""
    return f"{kind}: {', '.join(entries[:_LISTED])}{more}"
