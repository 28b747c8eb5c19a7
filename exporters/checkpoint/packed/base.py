"""Shared parts of the packed formats: their interface, one packed module, unpacking integers from words."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch

from ptgc.errors import CheckpointError

_WORD = 32  # bits of the words that hold packed integers
_STEP = 512  # inputs restored together, to keep temporary memory small
_FLOATS = (torch.float16, torch.bfloat16, torch.float32)


@dataclass(frozen=True)
class Scheme:
    """How the weights of some modules were rounded.

    Attributes:
        bits: Bits of each weight.
        group_size: Inputs that share a scale; -1 for all of them.
        symmetric: Whether zero is in the middle of the integers.
    """

    bits: int
    group_size: int
    symmetric: bool


@dataclass(frozen=True)
class PackedModule:
    """The tensors of one packed module.

    Attributes:
        name: Path of the module.
        tensors: Its tensors by the last part of their names.
    """

    name: str
    tensors: Mapping[str, torch.Tensor]

    def tensor(self, part: str, num_dimensions: int | None = None) -> torch.Tensor:
        """Return one of the tensors.

        Args:
            part: Last part of its name.
            num_dimensions: Required number of dimensions; None for any.

        Raises:
            CheckpointError: It is missing, or has another number of dimensions.
        """
        if part not in self.tensors:
            raise self.error(part, f"is missing, but there is {', '.join(sorted(self.tensors))}")
        found = self.tensors[part]
        if num_dimensions is not None and found.ndim != num_dimensions:
            raise self.error(part, f"is {list(found.shape)}; it must have {num_dimensions} dimensions")
        return found

    def words(self, part: str) -> torch.Tensor:
        """Return a tensor of packed integers, `[rows, columns]`, int32."""
        found = self.tensor(part, 2)
        if found.dtype != torch.int32:
            raise self.error(part, f"is {_name(found)}; packed integers are int32")
        return found

    def floats(self, part: str, num_dimensions: int | None = None) -> torch.Tensor:
        """Return a tensor of floating-point numbers as float32."""
        found = self.tensor(part, num_dimensions)
        if found.dtype not in _FLOATS:
            raise self.error(part, f"is {_name(found)}; it must be of a floating-point type")
        return found.float()

    def group_indices(self, part: str, num_inputs: int, num_groups: int) -> torch.Tensor:
        """Return the group of each input, `[in]`, int64."""
        found = self.tensor(part, 1).long()
        self.check_shape(part, (num_inputs,), "one for each input")
        lowest, highest = int(found.min()), int(found.max())
        if lowest < 0 or highest >= num_groups:
            raise self.error(part, f"goes from {lowest} to {highest}, out of the {num_groups} groups that have scales")
        return found

    def check_shape(self, part: str, expected: tuple[int, ...], why: str) -> None:
        """Compare a tensor's shape with the shape that the module's other tensors require.

        Raises:
            CheckpointError: The shapes differ.
        """
        shape = tuple(self.tensors[part].shape)
        if shape != expected:
            raise self.error(part, f"is {list(shape)}; {why} makes {list(expected)}")

    def error(self, part: str, what: str) -> CheckpointError:
        """Make the error that names one of the tensors."""
        return CheckpointError(
            f"Cannot unpack the quantised weights: '{self.name}.{part}' {what}.",
            "Download the checkpoint again; if the error stays, its config.json is not that of its weights.",
        )


@dataclass(frozen=True)
class PackedFormat(ABC):
    """How the weights of a checkpoint are packed, according to its configuration.

    Attributes:
        method: The method's name in the checkpoint.
        schemes: How modules were rounded; more than one if modules differ.
    """

    method: str
    schemes: tuple[Scheme, ...]
    parts: ClassVar[frozenset[str]]
    """Last parts of the names of the tensors that only packed modules have."""

    @abstractmethod
    def unpack(self, module: PackedModule) -> torch.Tensor:
        """Restore a module's weights, `[out, in]`, float32.

        Raises:
            CheckpointError: Tensors are missing or do not fit each other.
        """

    def bits_of(self, module: PackedModule, part: str, num_words: int, num_inputs: int) -> int:
        """Return the number of bits, among those of the schemes, at which the inputs fill exactly these words."""
        allowed = sorted({scheme.bits for scheme in self.schemes})
        for bits in allowed:
            if num_words == -(-num_inputs * bits // _WORD):
                return bits
        listed = " or ".join(map(str, allowed))
        raise module.error(
            part, f"has {num_words} words for {num_inputs} inputs; they do not fit weights of {listed} bits"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the manifest's entry."""
        return {"method": self.method, "schemes": [asdict(scheme) for scheme in self.schemes]}


def unpack_words(words: torch.Tensor, bits: int) -> torch.Tensor:
    """Split words into unsigned integers, the lowest bits first.

    Args:
        words: int32 `[rows, columns]`.
        bits: Bits of each integer; divides 32.

    Returns:
        uint8 `[rows, columns * 32 / bits]`.
    """
    shifts = torch.arange(0, _WORD, bits, dtype=torch.int32)
    fields = (words[..., None] >> shifts) & ((1 << bits) - 1)
    return fields.to(torch.uint8).flatten(-2)


def restore(
    read: Callable[[slice], torch.Tensor],
    scales: torch.Tensor,
    zero_points: torch.Tensor,
    groups: torch.Tensor,
) -> torch.Tensor:
    """Multiply integers by their scales: (integer - zero point) * scale, in float32, which rounds no product.

    Args:
        read: Returns the integers of a slice of inputs, `[out, inputs]`; slices start at multiples of 512.
        scales: float32 `[out, groups]`.
        zero_points: `[out, groups]`.
        groups: The group of each input, `[in]`, int64.

    Returns:
        float32 `[out, in]`.
    """
    matrix = torch.empty(len(scales), len(groups))
    zeros = zero_points.float()
    for start in range(0, len(groups), _STEP):
        part = slice(start, min(start + _STEP, len(groups)))
        of = groups[part]
        matrix[:, part] = (read(part).float() - zeros[:, of]).mul_(scales[:, of])
    return matrix


def refuse(source: str, method: str, problems: Sequence[str]) -> CheckpointError:
    """Make the error for a quantised checkpoint that cannot be read, with every reason."""
    return CheckpointError(
        f"Cannot open the checkpoint '{source}': it is quantised already, by {method}; {'; '.join(problems)}.",
        "Give the checkpoint that was not quantised, and quantise it with: "
        "ptgc build BUNDLE --precision int4 --calibration TEXT",
    )


def expect(problems: list[str], settings: Mapping[str, Any], name: str, allowed: Sequence[Any], default: Any) -> Any:
    """Return a setting, and record a problem if its value is not supported.

    Args:
        problems: The list to append to.
        settings: The method's settings.
        name: Name of the setting.
        allowed: Supported values.
        default: Used if the setting is missing or null.
    """
    value = settings.get(name)
    value = default if value is None else value
    # 1 == True, but a number is not accepted for a boolean or the reverse
    if not any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in allowed):
        listed = ", ".join(str(one) for one in allowed)
        problems.append(f"{name} is {str(value)[:60]!r}, which cannot be read (only {listed})")
    return value


def expect_group_size(problems: list[str], settings: Mapping[str, Any], name: str) -> int:
    """Return the group size, by default 128, and record a problem if it is neither positive nor -1."""
    value = settings.get(name, 128)
    if isinstance(value, int) and not isinstance(value, bool) and (value > 0 or value == -1):
        return value
    problems.append(f"{name} is {str(value)[:60]!r}, which is neither positive nor -1")
    return -1


def _name(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
