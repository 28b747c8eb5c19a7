"""A packed bundle opens, runs and inspects; what was left out is reported, with its location."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from ptgc.cli.app import app
from ptgc.compiler.build.pack import pack
from ptgc.errors import BundleError, StorageError
from ptgc.runtime import Generator
from ptgc.spec.bundle import open_bundle
from ptgc.spec.manifest import Manifest
from tests.bundles import build_id, own_copy, tiny_build
from tests.models import prompt

BUILD = build_id("float32", 1)


def run(*arguments: object) -> Result:
    result: Any = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code != 3, result.output
    return result


@pytest.fixture(scope="module")
def bundle(place: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return own_copy(place, tmp_path_factory.mktemp("pack") / "bundle")


@pytest.fixture(scope="module")
def packed(bundle: Path) -> Path:
    result = run("pack", bundle, "-o", bundle.parent / "packed", "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    assert said["builds"] == [BUILD]
    assert 0 < said["bytes"] < said["bytes_before"]
    return bundle.parent / "packed"


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_it_holds_a_manifest_and_the_build_and_nothing_else(packed: Path) -> None:
    assert files(packed) == {"manifest.json"} | {
        f"builds/{BUILD}/{name}" for name in ("build.json", "target.onnx", "target.data")
    }
    opened = open_bundle(packed)
    opened.verify()
    opened.build().verify()


def test_it_writes_what_the_whole_bundle_writes(bundle: Path, packed: Path) -> None:
    texts = []
    for path in (bundle, packed):
        with Generator(path, num_threads=1) as generator:
            texts.append(generator.generate(prompt(9), max_new_tokens=16).token_ids)
    assert texts[0] == texts[1]


def test_its_manifest_says_what_was_left_out(bundle: Path, packed: Path) -> None:
    manifest = open_bundle(packed).manifest
    assert manifest.packed is not None
    assert manifest.packed.bundle_sha256 == open_bundle(bundle).sha256
    assert {"graphs/target.onnx", "graphs/target.data", "reference/target.json"} <= set(manifest.packed.dropped)
    assert Manifest.from_json(manifest.to_json()) == manifest
    assert "files left out" in run("inspect", packed).stdout


def test_packing_twice_gives_the_same_bytes(bundle: Path, packed: Path, tmp_path: Path) -> None:
    pack(bundle, tmp_path / "again")
    for name in files(packed):
        assert (tmp_path / "again" / name).read_bytes() == (packed / name).read_bytes(), name


def test_a_packed_bundle_can_be_packed_again(bundle: Path, packed: Path, tmp_path: Path) -> None:
    again = pack(packed, tmp_path / "again")
    assert again.manifest.packed == open_bundle(packed).manifest.packed


@pytest.mark.parametrize("command", ["build", "check"])
def test_what_needs_the_rest_says_where_it_is(packed: Path, command: str) -> None:
    result = run(command, packed, "--json")
    error = json.loads(result.stdout)["error"]
    assert (result.exit_code, error["code"]) == (1, "bundle")
    assert "`ptgc pack` left out" in error["message"]
    assert "packed from" in error["action"]


def test_another_build_of_it_is_made_where_it_was_packed_from(packed: Path) -> None:
    with pytest.raises(BundleError, match="has no build 'other'") as raised:
        open_bundle(packed).build("other")
    assert "packed from" in raised.value.action


def test_references_can_be_kept_and_then_it_can_be_checked(bundle: Path, tmp_path: Path) -> None:
    pack(bundle, tmp_path / "kept", keep_references=True)
    result = run("check", tmp_path / "kept", "--json")
    assert result.exit_code == 0, result.output
    stages = [stage["stage"] for stage in json.loads(result.stdout)["stages"]]
    assert stages[:3] == [f"{BUILD}: weights", f"{BUILD}: prepared graph", f"{BUILD}: engine"]


def test_named_builds_are_taken_and_others_are_not(place: Path, tmp_path: Path) -> None:
    bundle = tiny_build(place, "llama", "int8")
    tiny_build(place, "llama", "int4")
    wanted = [build_id("int8", 1), build_id("float32", 1)]
    tiny_build(place, "llama", "float32")
    made = pack(bundle, tmp_path / "two", wanted)
    assert {build.manifest.id for build in made.builds()} == set(wanted)
    with pytest.raises(BundleError, match="has no build 'other'"):
        pack(bundle, tmp_path / "none", ["other"])


def test_an_existing_directory_is_only_replaced_if_it_is_a_bundle(bundle: Path, tmp_path: Path) -> None:
    pack(bundle, tmp_path / "one")
    with pytest.raises(StorageError, match="exists already") as raised:
        pack(bundle, tmp_path / "one")
    assert "--force" in raised.value.action
    pack(bundle, tmp_path / "one", force=True)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "data").write_text("x")
    with pytest.raises(StorageError, match="is no bundle"):
        pack(bundle, tmp_path / "precious", force=True)
    assert (tmp_path / "precious" / "data").read_text() == "x"
    with pytest.raises(StorageError, match="lies in the bundle"):
        pack(bundle, bundle / "inside")


def test_a_damaged_build_is_not_packed_and_nothing_is_left(place: Path, tmp_path: Path) -> None:
    bundle = own_copy(place, tmp_path / "bundle")
    data = bundle / "builds" / BUILD / "target.data"
    content = bytearray(data.read_bytes())
    content[100] ^= 1
    data.write_bytes(content)
    with pytest.raises(BundleError, match="has been changed"):
        pack(bundle, tmp_path / "packed")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_a_bundle_without_a_build_says_how_to_make_one(place: Path, tmp_path: Path) -> None:
    bundle = own_copy(place, tmp_path / "bundle")
    (bundle / "builds" / BUILD / "build.json").unlink()
    with pytest.raises(BundleError, match="no build to pack") as raised:
        pack(bundle, tmp_path / "packed")
    assert "ptgc build" in raised.value.action
