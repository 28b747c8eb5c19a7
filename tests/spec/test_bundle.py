"""Every way in which a bundle can be wrong has its own error."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptgc.errors import BundleError
from ptgc.runtime import Generator
from ptgc.spec.bundle import open_bundle
from tests.bundles import build_id, own_copy

BUILD = build_id("float32", 1)


@pytest.fixture
def bundle(place: Path, tmp_path: Path) -> Path:
    return own_copy(place, tmp_path / "bundle")


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_a_whole_bundle_opens_and_verifies(bundle: Path) -> None:
    opened = open_bundle(bundle)
    opened.verify()
    assert [build.manifest.id for build in opened.builds()] == [BUILD]


@pytest.mark.parametrize("name", ["graphs/target.onnx", "graphs/target.data", "reference/target.json"])
def test_a_missing_file_is_named(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=rf"{name} is missing"):
        open_bundle(bundle)


def test_a_truncated_file_is_named_with_both_sizes(bundle: Path) -> None:
    path = bundle / "graphs" / "target.data"
    size = path.stat().st_size
    os.truncate(path, size - 1)
    with pytest.raises(BundleError, match=rf"target.data has {size - 1} bytes, not the {size}"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", ["manifest.json", f"builds/{BUILD}/build.json"])
def test_a_truncated_manifest_is_no_json(bundle: Path, name: str) -> None:
    os.truncate(bundle / name, 100)
    with pytest.raises(BundleError, match="not valid JSON"):
        open_bundle(bundle).builds()


def test_an_edited_weight_is_found_by_its_hash(bundle: Path) -> None:
    path = bundle / "builds" / BUILD / "target.data"
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"target.data has been changed") as raised:
        Generator(bundle)
    assert "--replace" in raised.value.action


def test_a_wrong_hash_in_the_manifest_is_found(bundle: Path) -> None:
    edit(bundle / "manifest.json", lambda d: d["files"][0].update(sha256="0" * 64))
    with pytest.raises(BundleError, match="has been changed"):
        open_bundle(bundle).verify()


@pytest.mark.parametrize("path", ["../outside", "/etc/passwd", "graphs/../../x", "", "graphs\\x"])
def test_a_path_that_leaves_the_bundle_is_refused(bundle: Path, path: str) -> None:
    edit(bundle / "manifest.json", lambda d: d["files"][0].update(path=path))
    with pytest.raises(BundleError, match="outside itself"):
        open_bundle(bundle)


def test_a_graph_outside_the_bundle_is_refused(bundle: Path) -> None:
    edit(bundle / "manifest.json", lambda d: d["roles"]["target"].update(graph="../evil.onnx"))
    with pytest.raises(BundleError, match="outside itself"):
        open_bundle(bundle)


def test_a_link_that_leaves_the_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    path = bundle / "graphs" / "target.onnx"
    outside = path.rename(tmp_path / "outside.onnx")
    path.symlink_to(outside)
    with pytest.raises(BundleError, match="link to a file outside"):
        open_bundle(bundle)


@pytest.mark.parametrize("name", ["manifest.json", f"builds/{BUILD}/build.json"])
def test_a_newer_schema_is_refused_with_the_version_that_reads_it(bundle: Path, name: str) -> None:
    edit(bundle / name, lambda d: d.update(schema_version=2, min_runtime="9.1"))
    with pytest.raises(BundleError, match="schema version 2; this ptgc reads up to 1") as raised:
        open_bundle(bundle).builds()
    assert "9.1" in raised.value.action


def test_an_unknown_feature_is_refused_by_name(bundle: Path) -> None:
    edit(bundle / "manifest.json", lambda d: d["features"].append("time-travel"))
    with pytest.raises(BundleError, match="time-travel"):
        open_bundle(bundle)


def test_an_unknown_field_is_ignored(bundle: Path) -> None:
    edit(bundle / "manifest.json", lambda d: d.update(colour="green"))
    assert open_bundle(bundle).manifest.plan.drafter.num_draft_tokens == 7


@pytest.mark.parametrize("field", ["roles", "plan", "model", "files", "strategy"])
def test_a_missing_field_is_damage(bundle: Path, field: str) -> None:
    edit(bundle / "manifest.json", lambda d: d.pop(field))
    with pytest.raises(BundleError, match="damaged"):
        open_bundle(bundle)


def test_no_bundle_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="There is no bundle") as raised:
        open_bundle(tmp_path / "nowhere")
    assert "ptgc export" in raised.value.action


def test_a_named_build_that_is_not_there_lists_those_that_are(bundle: Path) -> None:
    with pytest.raises(BundleError, match=f"has no build 'other'; it has: {BUILD}"):
        open_bundle(bundle).build("other")


def test_a_build_of_another_export_is_refused_by_name_and_not_taken_unasked(bundle: Path) -> None:
    edit(bundle / "manifest.json", lambda d: d["provenance"].update(source="another"))
    with pytest.raises(BundleError, match="another export") as raised:
        open_bundle(bundle).build(BUILD)
    assert f"--id {BUILD} --replace" in raised.value.action
    with pytest.raises(BundleError, match="no build for device 'cpu'"):
        open_bundle(bundle).build()


def test_a_device_without_a_build_says_which_command_makes_one(bundle: Path) -> None:
    with pytest.raises(BundleError) as raised:
        Generator(bundle, device="cuda")
    assert "--device cuda" in raised.value.action


def test_the_manifest_survives_a_round_trip(bundle: Path) -> None:
    from ptgc.spec.build_manifest import BuildManifest
    from ptgc.spec.manifest import Manifest

    opened = open_bundle(bundle)
    assert Manifest.from_json(opened.manifest.to_json()) == opened.manifest
    made = opened.build().manifest
    assert BuildManifest.from_json(made.to_json()) == made
