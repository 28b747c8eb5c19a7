"""Good bundles of every loop, and copies of them that a case changes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from ptgc.runtime.costs import CostCurve, RoundCost, write_costs
from ptgc.runtime.tuning import Tuning, write_tuning
from ptgc.spec.bundle import BUILDS, open_bundle
from ptgc.spec.strategies.ctc import ctc
from ptgc.spec.strategies.draft_model import draft_model
from ptgc.spec.strategies.masked_diffusion import masked_diffusion
from ptgc.spec.strategies.ngram import ngram
from tests.bundles import build_id, tiny_build
from tests.loops import LEVENSHTEIN, SOURCE_EDITS, loop_build
from tests.spec.fuzz.cases import CANARY, DAMAGES, LISTED, Case, apply_edits

PROMPT = [5, 9, 30, 31, 8, 7, 11, 12]
_MASK = 3
_TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}{{ bos_token }}"
_FILES = {
    "manifest": "manifest.json",
    "build": "builds/made/build.json",
    "tokenizer": "tokenizer/tokenizer.json",
    "tokenizer_config": "tokenizer/tokenizer_config.json",
    "chat_template": "tokenizer/chat_template.jinja",
}


def good_build(place: Path, loop: str) -> Path:
    """The folder of a build of some tiny model."""
    if loop == "speculative":
        return tiny_build(place, "mistral") / BUILDS / build_id("float32", 1)
    if loop == "drafter":
        return loop_build(place, "drafter", draft_model(3), 1, "float32")
    if loop == "encoder":
        return loop_build(place, "marian", ngram(5, 3, 1), 1, "float32")
    if loop == "canvas":
        return loop_build(place, "bert", masked_diffusion(_MASK, 4, block_length=3), 1, "float32")
    if loop == "source-edit":
        return loop_build(place, "source-editor", SOURCE_EDITS, 1, "float32")
    if loop == "edit":
        return loop_build(place, "levenshtein", LEVENSHTEIN, 1, "float32")
    return loop_build(place, "ctc", ctc(0, 2), 1, "float32")


class FuzzBundle:
    """A copy of a bundle with one build, a tokenizer and measurements, whose documents can be changed and restored.

    Args:
        made: The build that is copied, with its bundle.
        folder: Where the copy goes; what lies beside it is not its own.
    """

    def __init__(self, made: Path, folder: Path) -> None:
        self.path = folder / "bundle"
        self._canary = folder / "canary"
        bundle = made.parents[1]
        shutil.copytree(bundle, self.path, ignore=lambda path, names: [BUILDS] if Path(path) == bundle else [])
        shutil.copytree(made, self.path / BUILDS / "made", ignore=shutil.ignore_patterns("measured"))
        shutil.copytree(made, self._canary)
        (folder / "elsewhere").mkdir()
        (folder / "prompt.json").write_text(json.dumps(PROMPT))
        self._edit("build", {"id": "made"})
        _write_tokenizer(self.path / "tokenizer", self._document("manifest")["model"]["vocab_size"])
        self._edit("manifest", {"tokenizer": "tokenizer"})
        for name in ("tokenizer", "tokenizer_config", "chat_template"):
            self._document_files().append({"path": _FILES[name], "size": 0, "sha256": "0" * 64})
            self._list(_FILES[name])
        self.refit()
        self._files = _FILES | {"reference": self._document("manifest")["reference"]} | self._measure()
        self._good = {name: (self.path / path).read_bytes() for name, path in self._files.items()}

    def _document_files(self) -> list[dict[str, Any]]:
        files: list[dict[str, Any]] = self.__dict__.setdefault("_listed", self._document("manifest")["files"])
        return files

    def _list(self, path: str) -> None:
        content = (self.path / path).read_bytes()
        entry = next(one for one in self._document_files() if one["path"] == path)
        entry |= {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        self._edit("manifest", {"files": self._document_files()})

    def _document(self, name: str) -> Any:
        return json.loads((self.path / _FILES[name]).read_text())

    def _edit(self, name: str, changes: dict[str, Any]) -> None:
        (self.path / _FILES[name]).write_text(json.dumps(self._document(name) | changes))

    def refit(self) -> None:
        """Put the digest of the current manifest into the build."""
        digest = hashlib.sha256((self.path / "manifest.json").read_bytes()).hexdigest()
        self._edit("build", {"bundle_sha256": digest})

    def _measure(self) -> dict[str, str]:
        build = open_bundle(self.path).build("made")
        cost = RoundCost(0.001, 0.001, 0.002, 3)
        rounds = {name: dict.fromkeys(own.widths, cost) for name, own in build.manifest.shapes.roles.items()}
        costs = write_costs(build, CostCurve(1, 4, rounds.get("target", {}), rounds.get("drafter", {})))
        write_tuning(build, Tuning(1, 0, (0.5,), {"chat": "0" * 64}))
        tuning = next(path for path in costs.parent.iterdir() if path.name.endswith("-tuning.json"))
        return {name: path.relative_to(self.path).as_posix() for name, path in (("costs", costs), ("tuning", tuning))}

    def change(self, case: Case) -> None:
        """Apply a case to the bundle."""
        path = self.path / self._files[case.document]
        content = self._good[case.document]
        if case.document != "chat_template":
            document = json.loads(content)
            apply_edits(document, case.edits)
            content = json.dumps(document).replace(CANARY, str(self._canary)).encode()
        else:
            content += str(case.edits[0].value).encode("utf-8", "replace")
        if case.damage in DAMAGES:
            content = DAMAGES[case.damage](content, case.at)
        elif case.damage:
            self._replace(path, case.damage)
            return
        path.write_bytes(content)
        if not case.refits:
            return
        if case.document in LISTED:
            self.__dict__.pop("_listed", None)
            self._list(self._files[case.document])
        if case.document in ("manifest", *LISTED):
            self.refit()

    def _replace(self, path: Path, kind: str) -> None:
        path.unlink()
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "loop of links":
            path.symlink_to(path.name)
        elif kind == "link outside":
            path.symlink_to(self._canary / "build.json")

    def restore(self) -> None:
        """Restore the good bundle."""
        for name, path in self._files.items():
            place = self.path / path
            if place.is_symlink() or place.is_fifo():
                place.unlink()
            elif place.is_dir():
                shutil.rmtree(place)
            place.write_bytes(self._good[name])


def _write_tokenizer(folder: Path, vocab_size: int) -> None:
    """A tokenizer with letters as bytes and one end token."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())[: vocab_size - 1]
    made = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(alphabet)}, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    made.add_special_tokens([AddedToken("<end>", special=True, normalized=False)])
    folder.mkdir()
    made.save(str(folder / "tokenizer.json"))
    settings = {"bos_token": "<end>", "eos_token": {"content": "<end>"}, "model_max_length": 10**30}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(_TEMPLATE)
