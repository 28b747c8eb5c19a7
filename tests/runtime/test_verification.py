"""The core verifies the files of a build before the engine library sees them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from ptgc import errors
from ptgc.runtime import _core
from ptgc.runtime.libraries import onnxruntime_library
from ptgc.spec.shapes import RoleShapes, ShapePlan
from ptgc.spec.strategies.autoregressive import autoregressive
from tests.runtime.toy_build import write_toy_build

SHAPES = ShapePlan(1, 64, {"target": RoleShapes((1, 8), 1, (72,))})


@pytest.fixture
def build(tmp_path: Path) -> Path:
    made = write_toy_build(tmp_path / "bundle", autoregressive(), SHAPES)
    fit(made)
    return made


def load(build: Path, *, verify: bool = True) -> _core.Generator:
    return _core.Generator(str(build), num_threads=1, library=onnxruntime_library(), verify=verify)


def fit(build: Path, change: Callable[[Any], Any] = lambda document: document) -> None:
    """Recompute the hashes, as an attacker would."""
    document = json.loads((build / "build.json").read_text())
    change(document)
    document["bundle_sha256"] = hashlib.sha256((build.parents[1] / "manifest.json").read_bytes()).hexdigest()
    document["files"] = [
        {"path": path.name, "size": path.stat().st_size, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for path in sorted(build.iterdir())
        if path.name != "build.json"
    ]
    (build / "build.json").write_text(json.dumps(document))


def write_generation(build: Path) -> list[int]:
    return load(build).generate([_core.Request([3, 4, 5], 6)])[0].token_ids


def with_weights_in(build: Path, location: str) -> None:
    """Make the graph say that one of its tensors is in a file."""
    model = onnx.load(build / "target.onnx")
    tensor = next(node.attribute[0].t for node in model.graph.node if node.op_type == "Constant")
    if model.graph.initializer:
        tensor = max(model.graph.initializer, key=lambda candidate: len(candidate.raw_data))
    content = tensor.raw_data
    (build / "weights.data").write_bytes(content)
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", str(len(content)))):
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    (build / "target.onnx").write_bytes(model.SerializeToString())
    fit(build)


def test_weights_beside_the_graph_are_read(build: Path) -> None:
    expected = write_generation(build)
    with_weights_in(build, "weights.data")
    assert write_generation(build) == expected


@pytest.mark.parametrize("name", ["target.onnx", "weights.data"])
def test_a_changed_file_is_named_before_the_library_reads_it(build: Path, name: str) -> None:
    with_weights_in(build, "weights.data")
    path = build / name
    content = bytearray(path.read_bytes())
    content[2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(errors.BundleError, match=f"{name} has been changed"):
        load(build)


def test_another_manifest_is_found(build: Path) -> None:
    path = build.parents[1] / "manifest.json"
    path.write_text(path.read_text().replace('"family": "toy"', '"family": "tor"'))
    with pytest.raises(errors.BundleError, match="another export"):
        load(build)
    load(build, verify=False).close()


@pytest.mark.parametrize("location", ["/etc/passwd", "../../secret.data", "link.data"])
def test_weights_outside_of_the_build_are_not_opened(build: Path, location: str) -> None:
    (build.parents[1] / "secret.data").write_bytes(bytes(1 << 16))
    with_weights_in(build, location)
    (build / "link.data").symlink_to(build.parents[1] / "secret.data")
    with pytest.raises(errors.BundleError, match="no file of its build"):
        load(build, verify=False)


def test_options_that_make_the_library_write_files_are_refused(build: Path, tmp_path: Path) -> None:
    victim = tmp_path / "notes.txt"
    victim.write_text("mine")
    option = {"session.collect_node_memory_stats_to_file": str(victim)}
    fit(build, lambda document: document.update(engine_options={"target": option}))
    with pytest.raises(errors.BundleError, match="collect_node_memory_stats_to_file"):
        load(build)
    assert victim.read_text() == "mine"
