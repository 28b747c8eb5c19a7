"""Whether the tensors of a checkpoint are those of the model that its configuration describes."""

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
        report: What transformers found while it loaded.
        allow_unexpected: Whether tensors that the model has no place for may be there.

    Raises:
        CheckpointError: Tensors are missing, of another shape, or have no place in the model.
    """
    mismatched = sorted((str(key), list(found), list(wanted)) for key, found, wanted in report["mismatched_keys"])
    problems = [f"'{key}' is {found}, and the configuration says {wanted}" for key, found, wanted in mismatched]
    problems = [_listed("tensors of another shape: {}", problems)] if problems else []
    missing = _names(report["missing_keys"])
    if missing:
        problems.append(_listed(f"the weights lack {len(missing)} tensors: {{}}", missing))
    unexpected = [] if allow_unexpected else _names(report["unexpected_keys"])
    if unexpected:
        problems.append(_listed(f"they have {len(unexpected)} tensors that the model does not have: {{}}", unexpected))
    problems += [str(message) for message in report.get("error_msgs") or ()]
    if problems:
        raise CheckpointError(
            f"Cannot load {source}: its tensors are not those of a {name}: {'; '.join(problems)}.",
            "Check that config.json and the weights are of one model; after a vocabulary was resized, vocab_size must "
            "say so.",
        )


def unused_tensors(report: Mapping[str, Any]) -> str | None:
    """A note of tensors that the model has no place for; None where there are none."""
    unexpected = _names(report["unexpected_keys"])
    if not unexpected:
        return None
    return _listed(f"{len(unexpected)} tensors of the checkpoint are not used by this architecture: {{}}", unexpected)


def _names(keys: Any) -> list[str]:
    return sorted(f"'{key}'" for key in keys)


def _listed(text: str, entries: list[str]) -> str:
    more = f" and {len(entries) - _LISTED} more" if len(entries) > _LISTED else ""
    return text.format(", ".join(entries[:_LISTED]) + more)
