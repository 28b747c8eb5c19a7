"""Finding vendor libraries."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from ptgc.runtime.libraries import onnxruntime_library, open_cuda_libraries


def test_cuda_libraries_of_the_index_are_opened_each_behind_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = onnxruntime_library()  # any library that can be opened
    for place in ("cudnn/lib/libcudnn.so.9", "cu13/lib/libcublas.so.13", "cu13/lib/libcudart.so.13"):
        file = tmp_path / "nvidia" / place
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, file)
    (tmp_path / "nvidia/cu13/lib/libcurand.so.10").write_text("no library")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "nvidia", raising=False)
    # The environment may have such packages too, beside torch's build for CUDA.
    opened = [Path(file).name for file in open_cuda_libraries() if Path(file).is_relative_to(tmp_path)]
    assert opened == ["libcudart.so.13", "libcublas.so.13", "libcudnn.so.9"]
