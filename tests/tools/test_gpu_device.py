"""On a CUDA device: the text checks of `make gpu`, on tiny models of every loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ptgc.runtime import Generator
from ptgc.spec.bundle import Bundle, open_bundle
from tests.tools.gpu_scripts import base, cuda_driver, exactness, gpu_bundles, round_times, write_bundles

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Settings of a small run on the device."""
    try:
        cuda_driver.require_device()
    except base.Skipped as reason:
        pytest.skip(str(reason))
    return base.Settings(device="cuda", work=str(tmp_path_factory.mktemp("gpu-work")), small=True)


def opened(name: str, settings: Any) -> Bundle:
    """A tiny bundle, written once."""
    folder = Path(settings.work) / "written"
    if not (folder / f"{name}.tar.xz").is_file():
        write_bundles.write(name, folder)
    return open_bundle(gpu_bundles.own_bundle(name, str(folder), settings.work))


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize("name", ["draft-model", "encoder-decoder", "masked-diffusion-steps", "ctc", "levenshtein"])
def test_texts_of_the_device_hold(name: str, precision: str, settings: Any) -> None:
    found = exactness.check_variant(opened(name, settings), exactness.Variant(precision), settings)
    assert not found["problems"]


def test_a_plain_round_is_one_launch_and_one_wait(settings: Any) -> None:
    bundle = opened("draft-model", settings)
    made = exactness.build_variant(bundle, exactness.Variant("float16"), settings.device)
    with Generator(bundle.path, build=made.manifest.id, device=settings.device) as generator:
        found = round_times.measure_mode(generator, list(range(3, 20)), True, settings)
    assert found["per_round"] == {"graph_launches": 1, "synchronisations": 1}
