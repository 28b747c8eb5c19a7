"""Every way in which a bundle can be wrong has its own error."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from tokenizers import Tokenizer, models
from typer.testing import CliRunner

from ptgc.cli.app import app
from ptgc.errors import BundleError, UsageError
from ptgc.graphs.storage import load
from ptgc.runtime import Generator
from ptgc.runtime.costs import CostCurve, RoundCost, read_costs, write_costs
from ptgc.runtime.tuning import Tuning, read_tuning, write_tuning
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
        open_bundle(bundle).build(BUILD)


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
        open_bundle(bundle).build(BUILD)
    assert "9.1" in raised.value.action


def test_an_unknown_feature_is_refused_by_name(bundle: Path) -> None:
    edit(bundle / "manifest.json", lambda d: d["features"].append("time-travel"))
    with pytest.raises(BundleError, match="time-travel"):
        open_bundle(bundle)


def test_an_unknown_drafter_is_refused_as_an_unknown_feature_is(bundle: Path) -> None:
    edit(bundle / "manifest.json", lambda d: d["plan"]["drafter"].update(kind="clairvoyant"))
    with pytest.raises(BundleError, match="needs features that this ptgc does not have: drafter-clairvoyant"):
        open_bundle(bundle)


def test_an_unknown_drafter_among_merged_ones_is_refused_so_too(bundle: Path) -> None:
    drafter = {"kind": "merged", "num_draft_tokens": 7, "drafters": [{"kind": "clairvoyant"}, {"kind": "ngram"}]}
    edit(bundle / "manifest.json", lambda d: d["plan"].update(drafter=drafter))
    with pytest.raises(BundleError, match="needs features that this ptgc does not have: drafter-clairvoyant"):
        open_bundle(bundle)


def test_a_drafter_reads_its_own_parameters_and_names_all_that_is_wrong(bundle: Path) -> None:
    wrong = {"num_draft_tokens": -1, "max_ngram_size": 65, "min_ngram_size": True, "ngram_match": "middle"}
    edit(bundle / "manifest.json", lambda d: d["plan"]["drafter"].update(wrong))
    with pytest.raises(BundleError) as caught:
        open_bundle(bundle)
    assert all(f"plan.drafter.{name} is" in caught.value.message for name in wrong)
    edit(bundle / "manifest.json", lambda d: d["plan"].update(drafter={"kind": "model", "num_draft_tokens": 5}))
    with pytest.raises(BundleError, match="roles lacks 'drafter'"):
        open_bundle(bundle)


def test_a_strategy_that_nobody_knows_here_is_read(bundle: Path) -> None:
    edit(bundle / "manifest.json", lambda d: d.update(strategy="telepathy-2", guarantee="approximate"))
    manifest = open_bundle(bundle).manifest
    assert (manifest.plan.strategy, manifest.plan.lossless) == ("telepathy-2", False)
    assert manifest.to_json()["guarantee"] == "approximate" and manifest.to_json()["lossless"] is False


@pytest.mark.parametrize(("field", "value"), [("strategy", "Two words"), ("strategy", ""), ("guarantee", "mostly")])
def test_what_a_strategy_is_called_and_promises_has_a_form(bundle: Path, field: str, value: str) -> None:
    edit(bundle / "manifest.json", lambda d: d.update({field: value}))
    with pytest.raises(BundleError, match=f"plan.{field} is '{value}'"):
        open_bundle(bundle)


def test_an_unknown_field_is_ignored(bundle: Path) -> None:
    edit(bundle / "manifest.json", lambda d: d.update(colour="green"))
    assert open_bundle(bundle).manifest.plan.drafter.num_draft_tokens == 7


@pytest.mark.parametrize("field", ["roles", "plan", "model", "files", "strategy", "guarantee"])
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


def second_build(bundle: Path, name: str = "second") -> Path:
    """A copy of the build under another name, newer than the first."""
    copied = Path(shutil.copytree(bundle / "builds" / BUILD, bundle / "builds" / name))
    edit(copied / "build.json", lambda d: d.update(id=name, sequence=d["sequence"] + 1))
    return copied


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d.update(schema_version=2), "schema version 2"),
        (lambda d: d.update(sequence="x"), "sequence is 'x'"),
        (lambda d: d["roles"].update(target=None), "roles.target is null"),
        (lambda d: d["shapes"].update(batch=-1), "shapes.batch is -1"),
        (
            lambda d: d["shapes"]["roles"]["target"].update(kv_capacities=[64]),
            "shapes.roles.target.kv_capacities must reach",
        ),
        (lambda d: d["shapes"].update(roles={}), "shapes.roles lacks 'target'"),
        (
            lambda d: d["shapes"]["roles"].update(drafter=d["shapes"]["roles"]["target"]),
            "shapes.roles has 'drafter', which is no role",
        ),
        (
            lambda d: d["roles"]["target"]["states"][0].update(shared_with={"role": "drafter", "layer": 0}),
            "layer 0 of 'drafter', which is no other role",
        ),
        (lambda d: d.update(files=[]), "which files does not list"),
        (lambda d: d.update(id="../x"), "id is '../x'"),
        (lambda d: d.update(precision={}), "precision lacks the role 'target'"),
    ],
)
def test_a_damaged_build_leaves_the_others_usable(
    bundle: Path, change: Callable[[Any], Any], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(second_build(bundle) / "build.json", change)
    opened = open_bundle(bundle)
    assert opened.build().manifest.id == BUILD
    with Generator(bundle, num_threads=1) as generator:
        assert generator.generate([5, 6, 7], max_new_tokens=2).build == BUILD
    with pytest.raises(BundleError, match=reason):
        opened.build("second")
    shown = json.loads(CliRunner().invoke(app, ["inspect", str(bundle), "--json"]).stdout)
    assert reason in shown["damaged_builds"]["second"] and len(shown["builds"]) == 1
    ran = CliRunner().invoke(app, ["run", str(bundle), "--prompt-ids", "5,6", "--max-new-tokens", "1"])
    assert ran.exit_code == 0 and "Note: build 'second' was passed over" in ran.stderr


def test_a_bundle_of_damaged_builds_says_why(bundle: Path) -> None:
    (bundle / "builds" / BUILD / "build.json").write_text("[]")
    with pytest.raises(BundleError, match=rf"(?s)no build for device.*Build '{BUILD}' cannot be read"):
        open_bundle(bundle).build()


def test_engine_options_that_ptgc_never_writes_are_refused(bundle: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("x")
    options = {"target": {"session.collect_node_memory_stats_to_file": str(precious)}}
    edit(bundle / "builds" / BUILD / "build.json", lambda d: d.update(engine_options=options))
    with pytest.raises(BundleError, match=r"sets session\.collect_node_memory_stats_to_file"):
        Generator(bundle, build=BUILD)
    assert precious.read_text() == "x"


def add_tokenizer(bundle: Path, folder: str = "tokenizer") -> Path:
    """Add a tokenizer to the bundle in a folder, with its files listed; return the folder."""
    made = Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[]))
    (bundle / folder).mkdir()
    made.save(str(bundle / folder / "tokenizer.json"))
    edit(bundle / "manifest.json", lambda d: d.update(tokenizer=folder))
    list_again(bundle, f"{folder}/tokenizer.json")
    return bundle / folder


def list_again(bundle: Path, path: str) -> None:
    """Update a file's entry in the manifest, and the manifest's digest in the build."""
    content = (bundle / path).read_bytes()
    entry = {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    edit(
        bundle / "manifest.json",
        lambda d: d.update(files=[*(one for one in d["files"] if one["path"] != path), entry]),
    )
    digest = hashlib.sha256((bundle / "manifest.json").read_bytes()).hexdigest()
    edit(bundle / "builds" / BUILD / "build.json", lambda d: d.update(bundle_sha256=digest))


def test_a_tokenizer_that_was_changed_is_refused(bundle: Path) -> None:
    folder = add_tokenizer(bundle)
    with Generator(bundle, num_threads=1) as generator:
        assert generator.codec is not None and generator.codec.encode("ab") == [0, 1]
    content = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(content.replace('"a":0,"b":1', '"a":1,"b":0').replace('"a": 0', '"a": 1'))
    assert (folder / "tokenizer.json").read_text() != content
    with pytest.raises(BundleError, match=r"tokenizer\.json has been changed"):
        Generator(bundle)


@pytest.mark.parametrize("content", ["", "{}", "[" * 500, '{"model": {"type": "BPE", "vocab": {"a": -1}}}'])
def test_a_tokenizer_that_is_none_is_refused(bundle: Path, content: str) -> None:
    (add_tokenizer(bundle) / "tokenizer.json").write_text(content)
    list_again(bundle, "tokenizer/tokenizer.json")
    with pytest.raises(BundleError, match=r"tokenizer\.json is damaged"):
        Generator(bundle)


@pytest.mark.parametrize("folder", ["../outside", "/outside", "graphs/../../outside", "nothing"])
def test_a_tokenizer_outside_the_bundle_or_not_listed_is_refused(bundle: Path, folder: str) -> None:
    edit(bundle / "manifest.json", lambda d: d.update(tokenizer=folder))
    with pytest.raises(BundleError, match=r"outside itself|which files does not list"):
        open_bundle(bundle)


def test_a_tokenizer_behind_a_link_out_of_the_bundle_is_refused(bundle: Path, tmp_path: Path) -> None:
    folder = add_tokenizer(bundle)
    folder.rename(tmp_path / "outside")
    folder.symlink_to(tmp_path / "outside")
    with pytest.raises(BundleError, match="link to a file outside"):
        Generator(bundle)


def test_files_of_a_tokenizer_that_are_not_listed_are_not_read(bundle: Path) -> None:
    (add_tokenizer(bundle) / "chat_template.jinja").write_text("{{ evil }}")
    with Generator(bundle, num_threads=1) as generator, pytest.raises(UsageError, match="no chat template"):
        generator.generate([{"role": "user", "content": "a"}])


@pytest.mark.parametrize("kind", ["pipe", "folder", "circle", "link outside"])
@pytest.mark.parametrize("command", ["run", "inspect", "check", "tune", "pack", "build", "bench"])
def test_every_command_refuses_a_manifest_that_is_no_file(
    bundle: Path, tmp_path: Path, command: str, kind: str
) -> None:
    path = bundle / "manifest.json"
    moved = path.rename(tmp_path / "moved.json")
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(moved if kind == "link outside" else "manifest.json")
    options = {"run": ["--prompt-ids", "5"], "pack": ["-o", str(tmp_path / "packed")]}.get(command, [])
    result = CliRunner().invoke(app, [command, str(bundle), *options, "--json"])
    assert result.exit_code == 1, result.output
    assert json.loads(result.stdout)["error"]["code"] == "bundle"


def test_what_was_measured_is_not_read_or_written_through_a_link_out_of_the_build(
    bundle: Path, tmp_path: Path, cache_folder: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    build = open_bundle(bundle).build()
    shutil.rmtree(build.path / "measured", ignore_errors=True)
    (build.path / "measured").symlink_to(outside)
    write_tuning(build, Tuning(1, 2, (), {}))
    assert not list(outside.iterdir())
    assert read_tuning(build, open_bundle(bundle).manifest.plan) == Tuning(1, 2, (), {})  # in the user's cache


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.update(num_threads=0),
        lambda d: d.update(num_threads=1 << 40),
        lambda d: d.update(num_draft_tokens=-1),
        lambda d: d.update(acceptance=[2.0]),
        lambda d: d.update(acceptance=None),
        lambda d: d.update(prompts=[]),
        lambda d: d.update(tree=[]),
        lambda d: d.update(tree=[0]),
        lambda d: d.update(tree=[-1, 2, 1], gains=[0.5, 0.2]),
        lambda d: d.update(tree="4,2"),
        lambda d: d.update(tree=[-1] + [0] * 5000, gains=[0] * 5000),
        lambda d: d.update(tree=[-1, 0], gains=[]),
        lambda d: d.update(tree=[-1, 0], gains=[1.5]),
        lambda d: d.update(gains=[0.5]),
        lambda d: d.update(tree=[-1, 0], gains=[0.5]),  # of a plan that drafts a chain
    ],
)
def test_a_damaged_tuning_is_ignored(bundle: Path, cache_folder: Path, change: Callable[[Any], Any]) -> None:
    build = open_bundle(bundle).build()
    write_tuning(build, Tuning(1, 2, (0.5,), {}))
    (path,) = (build.path / "measured").glob("*-tuning.json")
    edit(path, change)
    assert read_tuning(build, open_bundle(bundle).manifest.plan) is None
    os.truncate(path, 10)
    assert read_tuning(build, open_bundle(bundle).manifest.plan) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["rounds"].pop("1"),
        lambda d: d["rounds"].update({"3000": d["rounds"]["1"]}),
        lambda d: d["rounds"].update({"x": d["rounds"]["1"]}),
        lambda d: d["rounds"]["1"].update(median=-1),
        lambda d: d["rounds"]["1"].update(median="1"),
        lambda d: d.update(drafter_rounds=d["rounds"]),
        lambda d: d.update(rounds=[]),
    ],
)
def test_damaged_costs_are_ignored(bundle: Path, cache_folder: Path, change: Callable[[Any], Any]) -> None:
    build = open_bundle(bundle).build()
    cost = RoundCost(0.001, 0.001, 0.002, 3)
    curve = CostCurve(1, 4, dict.fromkeys(build.manifest.shapes.roles["target"].widths, cost))
    path = write_costs(build, curve)
    assert read_costs(build, 1) == curve
    edit(path, change)
    assert read_costs(build, 1) is None


@pytest.mark.parametrize("location", ["../../../outside.data", "/outside.data"])
def test_weights_outside_a_graphs_folder_are_not_read(bundle: Path, tmp_path: Path, location: str) -> None:
    path = bundle / "graphs" / "target.onnx"
    proto = onnx.load(path, load_external_data=False)
    for tensor in proto.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(proto.SerializeToString())
    with pytest.raises(BundleError, match="weights outside its folder"):
        load(path)
    path.write_bytes(b"no graph")
    with pytest.raises(BundleError, match="is no ONNX graph"):
        load(path)
