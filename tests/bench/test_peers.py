"""Peers: which modes and precisions each has, with which settings, and what is said of those that cannot take part."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from ptgc.bench.absences import Absences
from ptgc.bench.bench import peer_entrants
from ptgc.bench.checkpoint_files import CheckpointFiles
from ptgc.bench.contestants import Entrant
from ptgc.bench.convert import CONVERTERS
from ptgc.bench.converted import FORMATS
from ptgc.bench.peers import PEERS, base
from ptgc.bench.peers.base import ConvertedPeer, PeerTask
from ptgc.bench.worker import ENGINES
from ptgc.errors import BackendError, BuildError
from tests.bench.checkpoints import checkpoint_bundle

SILENT = Console(file=io.StringIO())
CONVERTED = {name: peer for name, peer in PEERS.items() if isinstance(peer, ConvertedPeer)}


def build(precision: str) -> Any:
    return SimpleNamespace(manifest=SimpleNamespace(precision={"target": precision}, roles=("target",)))


def task(bench_place: Path, *, drafter: bool = False) -> PeerTask:
    from ptgc.spec.bundle import open_bundle

    plan = open_bundle(checkpoint_bundle(bench_place)).manifest.plan
    checkpoint = CheckpointFiles(Path("model"), {})
    return PeerTask(checkpoint, checkpoint if drafter else None, plan, num_threads=2, max_length=100)


@pytest.fixture
def weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file in the place of converted weights."""
    file = tmp_path / "folder" / "weights.bin"
    file.parent.mkdir()
    file.write_bytes(b"12345")
    monkeypatch.setattr(base, "converted", lambda *_: file)
    return file


def entrants(name: str, given: PeerTask, precision: str = "int8") -> list[Entrant]:
    return PEERS[name].entrants(given, precision, lambda _: None)


def test_every_peer_has_an_engine_and_a_converter() -> None:
    assert set(PEERS) <= set(ENGINES)
    assert set(CONVERTED) == set(CONVERTERS) == set(FORMATS)


@pytest.mark.parametrize(
    ("name", "modes", "with_drafter"),
    [
        ("openvino-genai", ["plain", "prompt-lookup"], ["plain", "prompt-lookup", "draft"]),
        ("llama.cpp", ["plain", "prompt-lookup"], ["plain", "prompt-lookup"]),
        ("ctranslate2", ["plain"], ["plain"]),
    ],
)
def test_modes(name: str, modes: list[str], with_drafter: list[str], bench_place: Path, weights: Path) -> None:
    for drafter, wanted in ((False, modes), (True, with_drafter)):
        found = entrants(name, task(bench_place, drafter=drafter))
        assert [mode for one in found for mode in one.modes] == wanted
        assert {one.worker for one in found} == {name}
        assert all(one.facts["weight_bytes"] in (5, 10) for one in found)


@pytest.mark.parametrize(
    ("name", "has"),
    [
        ("openvino-genai", {"float32", "int8", "int4"}),
        ("llama.cpp", {"float32", "float16", "bfloat16", "int8", "int4"}),
        ("ctranslate2", {"float32", "int8"}),
    ],
)
def test_precisions(name: str, has: set[str]) -> None:
    precisions = ("float32", "float16", "bfloat16", "int8", "int4", "fp8")
    assert {PEERS[name].precision(build(one)) for one in precisions} - {None} == has


def test_openvino_computes_in_float32_and_drafts_with_another_folder(bench_place: Path, weights: Path) -> None:
    plain, lookup, draft = entrants("openvino-genai", task(bench_place, drafter=True))
    properties = {"INFERENCE_NUM_THREADS": 2, "INFERENCE_PRECISION_HINT": "f32"}
    assert plain.settings["properties"] == properties
    assert (plain.settings["drafter"], plain.settings["drafting"]) == (None, {})
    assert set(lookup.settings["drafting"]) == {"num_assistant_tokens", "max_ngram_size"}
    assert draft.settings["drafter"] == str(weights.parent)
    exact = entrants("openvino-genai", task(bench_place), "float32")[0]
    assert exact.settings["properties"] == {**properties, "KV_CACHE_PRECISION": "f32"}


def test_llama_cpp_has_room_for_text_and_drafts_and_a_float32_cache_only_at_float32(
    bench_place: Path, weights: Path
) -> None:
    plain, lookup = entrants("llama.cpp", task(bench_place))
    assert plain.settings["lookup"] is None
    assert plain.settings["max_length"] == 100 + lookup.settings["lookup"]["num_pred_tokens"]
    assert plain.settings["cache_type"] == "GGML_TYPE_F16"
    assert entrants("llama.cpp", task(bench_place), "float32")[0].settings["cache_type"] == "GGML_TYPE_F32"
    assert str(weights) not in str(plain.facts)


@pytest.mark.parametrize("peer", CONVERTED.values(), ids=CONVERTED)
def test_a_peer_that_is_not_installed_says_what_to_install(peer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "find_spec", lambda name: None)
    with pytest.raises(BackendError, match="is not installed") as raised:
        peer.require()
    assert f"[{peer.extra},export]" in raised.value.action


@pytest.mark.parametrize("peer", CONVERTED.values(), ids=CONVERTED)
def test_a_converter_that_is_not_installed_is_named(peer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "find_spec", lambda name: None if name == "torch" else object())
    with pytest.raises(BackendError, match="needs modules that are not installed: torch"):
        peer.require()


def test_a_precision_that_a_peer_lacks_is_an_absence_and_the_others_run(bench_place: Path, weights: Path) -> None:
    absences = Absences(SILENT, named=True)
    builds = [build("int8"), build("int4")]
    found = peer_entrants(task(bench_place), builds, [PEERS["ctranslate2"]], SILENT, absences)
    assert [one.precision for one in found] == ["int8"]
    (absence,) = absences.found
    assert (absence["engine"], absence["reason"]) == (
        "ctranslate2",
        "It has nothing like the precision of a build (int4).",
    )


def test_a_model_that_cannot_be_converted_is_an_absence_unless_the_peer_was_named(
    bench_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Path:
        raise BuildError("llama.cpp's conversion failed for int8.", "its log")

    monkeypatch.setattr(base, "converted", fail)
    given = (task(bench_place), [build("int8")], [PEERS["llama.cpp"]], SILENT)
    absences = Absences(SILENT)
    assert peer_entrants(*given, absences) == []
    assert absences.found[0]["engine"] == "llama.cpp int8"
    with pytest.raises(BuildError):
        peer_entrants(*given, Absences(SILENT, named=True))
