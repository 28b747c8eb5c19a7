"""A bundle is loaded while one of its builds is replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.errors import BundleError
from ptgc.runtime import Generator
from ptgc.runtime import generator as generator_module
from ptgc.spec.replacement import read_unreplaced
from tests.bundles import build_id, own_copy
from tests.models import prompt


def test_a_build_that_is_replaced_while_it_is_loaded_is_loaded_again(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle, name = own_copy(place, tmp_path / "bundle"), build_id("float32", 1)
    load, calls = generator_module.load_core, []

    def replaced_meanwhile(*arguments: Any, **options: Any) -> Any:
        if not calls:
            calls.append(1)
            wanted = BuildOptions(precision="int8", max_length=64, stage=Stage.PREPARE, build_id=name, replace=True)
            build(bundle, wanted)
        return load(*arguments, **options)

    monkeypatch.setattr(generator_module, "load_core", replaced_meanwhile)
    with Generator(bundle) as generator:
        assert generator.build.manifest.precision == {"target": "int8"}
        assert len(generator.generate(prompt(4), max_new_tokens=3).token_ids) == 3


def test_a_bundle_that_is_wrong_all_the_time_is_read_once(tmp_path: Path) -> None:
    reads = []

    def read() -> None:
        reads.append(1)
        raise BundleError("wrong")

    with pytest.raises(BundleError):
        read_unreplaced(tmp_path, read)
    assert len(reads) == 1
