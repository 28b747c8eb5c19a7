"""Converts a checkpoint for a peer, in a process of its own.

python -m ptgc.bench.convert llama.cpp CHECKPOINT int8 FOLDER
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ptgc.errors import PtgcError

Converter = Callable[[Path, str, Path], None]


def _openvino(model: Path, precision: str, output: Path) -> None:
    from ptgc.bench.converters.openvino_converter import convert

    convert(model, precision, output)


def _llama_cpp(model: Path, precision: str, output: Path) -> None:
    from ptgc.bench.converters.llama_cpp_converter import convert

    convert(model, precision, output)


def _ctranslate2(model: Path, precision: str, output: Path) -> None:
    from ptgc.bench.converters.ctranslate2_converter import convert

    convert(model, precision, output)


CONVERTERS: dict[str, Converter] = {
    "openvino-genai": _openvino,
    "llama.cpp": _llama_cpp,
    "ctranslate2": _ctranslate2,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert what the command line names; return the exit status."""
    peer, model, precision, output = sys.argv[1:] if arguments is None else arguments
    try:
        CONVERTERS[peer](Path(model), precision, Path(output))
    except PtgcError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
