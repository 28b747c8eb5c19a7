"""Precision of the roles of a build, and of their embedding and head where it differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ptgc.errors import BuildError

AUTO = "auto"
"""Asks for the fastest precision within a stated loss."""
MAX_DIVERGENCE = 0.05
"""Nats per token that `auto` may lose by default."""
QUANTIZED = frozenset({"int8", "int4", "fp8", "w8a8"})
"""Precisions that round weights."""
ROUNDS_INPUTS = frozenset({"fp8", "w8a8"})
"""Precisions that also round the activations, if there is a text."""
PARTS = ("embedding", "head")
"""Matrices over the vocabulary, which may have their own precision; a tied matrix is both."""

Precision = Mapping[str, str]
"""Precision by role (`target`), and by role and part (`target.head`) for parts that differ."""


def read_precision(text: str, roles: Sequence[str]) -> dict[str, str]:
    """Parse the value of `--precision`.

    Args:
        text: Comma-separated entries: `int4` for every role, `drafter=int8` for one, `head=int8` for the head of every
            role, `target.head=int8` for that of one. The more specific entry wins. Roles without an entry are `auto`.
        roles: The bundle's roles.

    Returns:
        A precision for every role, and for parts that differ from their role's.

    Raises:
        BuildError: A role or part does not exist, or an entry is given twice.
    """
    said: dict[str, str] = {}
    for entry in (part.strip() for part in text.split(",")):
        name, _, precision = entry.rpartition("=")
        if not precision or name in said or not _is_known(name, roles) or (name == "" and "=" in entry):
            raise BuildError(
                f"--precision has '{entry}'; this bundle has the roles: {', '.join(roles)}.",
                "Write one precision for all, ROLE=PRECISION,ROLE=PRECISION, and for vocabularies "
                "head=PRECISION or ROLE.head=PRECISION (or embedding).",
            )
        said[name] = precision
    found = {role: said.get(role, said.get("", AUTO)) for role in roles}
    for role in roles:
        for part in PARTS:
            precision = said.get(f"{role}.{part}", said.get(part, found[role]))
            if precision != found[role]:
                found[f"{role}.{part}"] = precision
    return found


def _is_known(name: str, roles: Sequence[str]) -> bool:
    role, _, part = name.rpartition(".")
    return name in ("", *roles, *PARTS) or (role in roles and part in PARTS)


def parts_of(precision: Precision, role: str) -> dict[str, str]:
    """The parts of a role that differ from it, with their precision."""
    return {part: precision[f"{role}.{part}"] for part in PARTS if f"{role}.{part}" in precision}


def of_role(precision: Precision, role: str) -> dict[str, str]:
    """The role's entry and those of its parts."""
    return {key: value for key, value in precision.items() if key == role or key.startswith(f"{role}.")}


def spell(precision: Precision, roles: Sequence[str]) -> str:
    """The spelling in names of builds: `int8`, `int4-head-int8`, and `int4-int8` if roles differ."""
    named = sorted({precision[role] for role in roles})
    parts = sorted({f"{part}-{value}" for role in roles for part, value in parts_of(precision, role).items()})
    return "-".join([*named, *parts])
