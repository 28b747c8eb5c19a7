"""The header of a GGUF file (metadata and tensor table), and its tensors as float32 arrays."""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType, dequantize

from ptgc.errors import CheckpointError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_DEFAULT_ALIGNMENT = 32
_MAX_DIMENSIONS = 4
_STRING, _ARRAY = 8, 9
# struct codes of the scalar types, by their number in the file
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}

Scalar = int | float | bool | str
Metadata = dict[str, Scalar | list[Scalar]]


@dataclass(frozen=True)
class GgufTensor:
    """Where one tensor is stored in the file.

    Attributes:
        shape: Outermost dimension first, as in numpy and PyTorch.
        type: How the values are stored.
        offset: First byte, counted from the start of the file.
        num_bytes: Size of the values in the file.
    """

    shape: tuple[int, ...]
    type: GGMLQuantizationType
    offset: int
    num_bytes: int


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file whose header has been read and whose length has been checked.

    Attributes:
        path: The file.
        metadata: Every key of the header with its value.
        tensors: Name in the file -> location of the tensor.
    """

    path: Path
    metadata: Metadata
    tensors: dict[str, GgufTensor]

    def dequantize(self, name: str) -> npt.NDArray[np.float32]:
        """Read one tensor and return its values in float32.

        Raises:
            CheckpointError: The tensor's type cannot be converted.
        """
        tensor = self.tensors[name]
        stored = np.fromfile(self.path, dtype=np.uint8, count=tensor.num_bytes, offset=tensor.offset)
        row_bytes = tensor.num_bytes // math.prod(tensor.shape[:-1])
        try:
            values = dequantize(stored.reshape(-1, row_bytes), tensor.type)
        except NotImplementedError as error:
            raise CheckpointError(
                f"Cannot read '{self.path}': tensor '{name}' is stored as {tensor.type.name}, "
                "which cannot be converted to float32.",
                "Use a GGUF file with another quantisation, for example Q8_0 or F16.",
            ) from error
        return values.reshape(tensor.shape).astype(np.float32, copy=False)


def read_gguf_file(path: Path) -> GgufFile:
    """Read the header of a GGUF file and check that it contains all of its tensors.

    Raises:
        CheckpointError: The file is not GGUF, is damaged, or is shorter than its header says.
    """
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise CheckpointError(
                f"Cannot read '{path}': it is not a GGUF file (it does not begin with the letters GGUF).",
                "Download the file again, or give the directory of a safetensors checkpoint.",
            )
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _HeaderReader(path, content).read()


class _HeaderReader:
    """Reads the header front to back; every length is checked against the file before it is used."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self._path = path
        self._content = content
        self._position = len(_MAGIC)

    def read(self) -> GgufFile:
        version = self._number("I")
        if version not in _VERSIONS:
            raise self._damaged(f"its version is {version}, and only little-endian versions 2 and 3 are known")
        tensor_count, key_count = self._number("Q"), self._number("Q")
        metadata = dict(self._entry() for _ in range(key_count))
        table = [self._tensor() for _ in range(tensor_count)]
        alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment <= 0:
            raise self._damaged(f"its alignment is {alignment!r}, and must be a positive number")
        start = -(-self._position // alignment) * alignment
        tensors = {
            name: GgufTensor(shape, type_, start + offset, num_bytes) for name, shape, type_, offset, num_bytes in table
        }
        if len(tensors) != len(table):
            raise self._damaged("two of its tensors have the same name")
        self._check_length(tensors)
        return GgufFile(self._path, metadata, tensors)

    def _check_length(self, tensors: dict[str, GgufTensor]) -> None:
        expected = max((tensor.offset + tensor.num_bytes for tensor in tensors.values()), default=0)
        if expected > len(self._content):
            raise CheckpointError(
                f"Cannot read '{self._path}': the file is truncated. "
                f"Its header announces {expected} bytes, it has {len(self._content)}.",
                "Download the file again; a copy or download was probably interrupted.",
            )

    def _entry(self) -> tuple[str, Scalar | list[Scalar]]:
        key, type_ = self._string(), self._number("I")
        return key, self._array() if type_ == _ARRAY else self._scalar_reader(type_)()

    def _array(self) -> list[Scalar]:
        type_, length = self._number("I"), self._number("Q")
        if type_ in _SCALARS:
            code = _SCALARS[type_]
            return list(struct.unpack(f"<{length}{code}", self._take(length * struct.calcsize(code))))
        read = self._scalar_reader(type_)
        return [read() for _ in range(length)]

    def _scalar_reader(self, type_: int) -> Callable[[], Scalar]:
        if type_ == _STRING:
            return self._string
        if type_ in _SCALARS:
            return lambda: self._unpack(_SCALARS[type_])
        raise self._damaged(f"its header holds a value of the unknown type {type_}")

    def _tensor(self) -> tuple[str, tuple[int, ...], GGMLQuantizationType, int, int]:
        name, rank = self._string(), self._number("I")
        if not 0 < rank <= _MAX_DIMENSIONS:
            raise self._damaged(f"tensor '{name}' has {rank} dimensions, allowed are 1 to {_MAX_DIMENSIONS}")
        shape = tuple(reversed([self._number("Q") for _ in range(rank)]))  # the file stores the innermost first
        number, offset = self._number("I"), self._number("Q")
        try:
            type_ = GGMLQuantizationType(number)
        except ValueError as error:
            raise CheckpointError(
                f"Cannot read '{self._path}': tensor '{name}' has the unknown quantisation type {number}.",
                "Update the gguf package, or use a GGUF file with another quantisation, for example Q8_0.",
            ) from error
        block_length, block_bytes = GGML_QUANT_SIZES[type_]
        if not all(shape) or shape[-1] % block_length:
            raise self._damaged(f"tensor '{name}' has the impossible shape {list(shape)} for {type_.name}")
        return name, shape, type_, offset, math.prod(shape) // block_length * block_bytes

    def _string(self) -> str:
        return self._take(self._number("Q")).decode("utf-8", errors="replace")

    def _number(self, code: str) -> int:
        return int(self._unpack(code))

    def _unpack(self, code: str) -> int | float | bool:
        value: int | float | bool = struct.unpack(f"<{code}", self._take(struct.calcsize(code)))[0]
        return value

    def _take(self, count: int) -> bytes:
        end = self._position + count
        if end > len(self._content):
            raise self._damaged(f"its header does not end within its {len(self._content)} bytes")
        taken = self._content[self._position : end]
        self._position = end
        return taken

    def _damaged(self, what: str) -> CheckpointError:
        return CheckpointError(
            f"Cannot read '{self._path}': the GGUF file is damaged or truncated: {what}.",
            "Download the file again.",
        )
