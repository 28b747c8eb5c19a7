"""Finding the safetensors files of a checkpoint, and checking that none is missing or truncated."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from ptgc.errors import CheckpointError

SINGLE_FILE = "model.safetensors"
SUFFIX = ".safetensors"
INDEX_FILE = "model.safetensors.index.json"

_LENGTH_BYTES = 8  # the header's length, little-endian, before the header
_MAX_HEADER = 100_000_000  # the limit of the format
_LFS_POINTER = b"version https://git-lfs"
_DTYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_NO_WEIGHTS = ("rotary_emb.inv_freq", ".masked_bias")  # constants in old checkpoints that no model reads
_DOWNLOAD_AGAIN = "Download it again; a copy or download was probably interrupted."


@dataclass(frozen=True)
class SafetensorsHeader:
    """The header of a safetensors file.

    Attributes:
        path: The file.
        tensors: Names of its tensors.
        types: Type of each tensor as spelled by the format, for example "BF16".
        bytes_by_type: Type -> bytes of all its tensors.
    """

    path: Path
    tensors: frozenset[str]
    types: dict[str, str]
    bytes_by_type: Counter[str]


def find_safetensors(directory: Path) -> tuple[Path, ...]:
    """List the weight files that transformers would read, all checked; empty if there are none.

    Raises:
        CheckpointError: A file that the index names is missing, or a file is damaged; all of them are listed.
    """
    if (directory / SINGLE_FILE).is_file():
        files: tuple[Path, ...] = (directory / SINGLE_FILE,)
        wanted: dict[str, str] = {}
    elif (directory / INDEX_FILE).is_file():
        wanted = _read_index(directory / INDEX_FILE)
        files = tuple(directory / name for name in sorted(set(wanted.values())))
    else:
        return ()
    _check_present(directory, files)
    headers, problems = [], []
    for file in files:
        try:
            headers.append(read_header(file))
        except CheckpointError as error:
            problems.append(error)
    if problems:
        raise CheckpointError("\n".join(error.message for error in problems), problems[0].action)
    _check_index(directory, wanted, headers)
    return files


def stored_dtype(files: tuple[Path, ...]) -> torch.dtype | None:
    """Return the floating-point type that keeps every weight; None when there is none.

    That is the type of most of them, or float32 if this type would round others.
    """
    total: Counter[str] = Counter()
    headers = [read_header(file) for file in files]
    for header in headers:
        total.update(header.bytes_by_type)
    floats = Counter({_DTYPES[name]: count for name, count in total.items() if name in _DTYPES})
    if not floats:
        return None
    most = floats.most_common(1)[0][0]
    if most not in (torch.float16, torch.bfloat16):
        return torch.float32  # the widest type that is traced
    return most if all(_keeps_values(header, most) for header in headers) else torch.float32


def _keeps_values(header: SafetensorsHeader, dtype: torch.dtype) -> bool:
    """Whether a type holds every value of a file's weights; only tensors of other types are read."""
    others = [name for name, type_ in header.types.items() if _DTYPES.get(type_, dtype) != dtype]
    others = [name for name in others if not name.endswith(_NO_WEIGHTS)]
    if not others:
        return True
    with safe_open(header.path, framework="pt") as content:
        return all(keeps_values(content.get_tensor(name), dtype) for name in others)


def keeps_values(tensor: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether converting a tensor to another type keeps its values."""
    return torch.equal(tensor.to(dtype).to(tensor.dtype), tensor)


def read_header(file: Path) -> SafetensorsHeader:
    """Read the header of one file and compare its byte ranges with the file's size.

    Raises:
        CheckpointError: The file is not safetensors, or is shorter or longer than its header says.
    """
    actual = file.stat().st_size
    with file.open("rb") as content:
        start = content.read(_LENGTH_BYTES)
        if start + content.read(len(_LFS_POINTER) - _LENGTH_BYTES) == _LFS_POINTER:
            raise CheckpointError(
                f"Cannot read '{file}': it is a Git LFS pointer of {actual} bytes, not the weights.",
                "Fetch the weights with: git lfs pull",
            )
        length = int.from_bytes(start, "little")
        if len(start) < _LENGTH_BYTES or length > _MAX_HEADER:
            raise CheckpointError(
                f"Cannot read '{file}': it is not a safetensors file ({actual} bytes).", _DOWNLOAD_AGAIN
            )
        if _LENGTH_BYTES + length > actual:
            raise _wrong_size(file, _LENGTH_BYTES + length, actual, "for its header alone")
        content.seek(_LENGTH_BYTES)
        entries = _parse_header(file, content.read(length))
    expected = _LENGTH_BYTES + length + max((end for _, _, end in entries.values()), default=0)
    if expected != actual:
        raise _wrong_size(file, expected, actual, "by its header")
    sizes: Counter[str] = Counter()
    for type_, begin, end in entries.values():
        sizes[type_] += end - begin
    types = {name: type_ for name, (type_, _, _) in entries.items()}
    return SafetensorsHeader(file, frozenset(entries), types, sizes)


def _parse_header(file: Path, text: bytes) -> dict[str, tuple[str, int, int]]:
    try:
        header: dict[str, Any] = json.loads(text)
        return {
            name: (str(entry["dtype"]), int(entry["data_offsets"][0]), int(entry["data_offsets"][1]))
            for name, entry in header.items()
            if name != "__metadata__"
        }
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"Cannot read '{file}': its safetensors header is damaged ({error}).", _DOWNLOAD_AGAIN
        ) from error


def _read_index(path: Path) -> dict[str, str]:
    """Return tensor name -> file name; a file name that leads out of the directory is refused."""
    try:
        index: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        entries = {str(tensor): str(name) for tensor, name in index["weight_map"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"Cannot read '{path}': it is not an index of safetensors files ({error}).", _DOWNLOAD_AGAIN
        ) from error
    odd = sorted({name for name in entries.values() if Path(name).name != name or Path(name).suffix != SUFFIX})
    if odd or not entries:
        raise CheckpointError(
            f"Cannot read '{path}': it must name .safetensors files beside it, it names {odd or 'none'}.",
            _DOWNLOAD_AGAIN,
        )
    return entries


def _check_present(directory: Path, files: tuple[Path, ...]) -> None:
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise CheckpointError(
            f"Cannot read the checkpoint '{directory}': {len(missing)} of the {len(files)} weight files in "
            f"its index are missing: {', '.join(missing)}.",
            "Resume the download of the checkpoint, or copy these files into the directory.",
        )


def _check_index(directory: Path, wanted: dict[str, str], headers: list[SafetensorsHeader]) -> None:
    present = {header.path.name: header.tensors for header in headers}
    absent = sorted(tensor for tensor, name in wanted.items() if tensor not in present[name])
    if absent:
        raise CheckpointError(
            f"Cannot read the checkpoint '{directory}': its index does not belong to its weight files; "
            f"they lack {len(absent)} tensors that it names, for example '{absent[0]}'.",
            "Download the index and the weight files again, from one revision.",
        )


def _wrong_size(file: Path, expected: int, actual: int, by: str) -> CheckpointError:
    return CheckpointError(
        f"Cannot read '{file}': it is {'truncated' if actual < expected else 'too long'}. "
        f"Expected {expected} bytes {by}, it has {actual}.",
        _DOWNLOAD_AGAIN,
    )
