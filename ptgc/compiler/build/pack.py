"""Packs a bundle: keeps what the runtime reads, and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ptgc.errors import BundleError
from ptgc.spec.bundle import (
    BUILDS,
    MANIFEST,
    MEASURED,
    Build,
    Bundle,
    open_bundle,
    reasons,
    write_build_manifest,
    write_manifest,
)
from ptgc.spec.bundle_files import check_paths, list_files
from ptgc.spec.json_file import UnreadableError, read_regular
from ptgc.spec.output import check_bundle_output
from ptgc.spec.packed import Packed
from ptgc.spec.staging import locked, staged_directory, write_whole

Progress = Callable[[str], None]


def pack(
    path: str | Path,
    output: str | Path,
    builds: Sequence[str] = (),
    *,
    keep_references: bool = False,
    force: bool = False,
    progress: Progress = lambda _: None,
) -> Bundle:
    """Write a bundle of a manifest, tokenizers and some builds, without canonical graphs and reference texts.

    Args:
        path: The bundle.
        output: Where to write the packed bundle; it appears whole or not at all.
        builds: Which builds; if empty, the newest of this export.
        keep_references: Keep the reference texts, so that `ptgc check` can compare the builds.
        force: Replace a bundle at `output`.
        progress: Called with each step.

    Returns:
        The packed bundle.

    Raises:
        BundleError: A build is missing, damaged or of another export.
        StorageError: `output` exists and may not be replaced, or cannot be written.
    """
    final = check_bundle_output(output, force=force, sources=(Path(path),))
    # The source must not be replaced meanwhile, nor the output be built in.
    with locked(Path(path) / MANIFEST, progress, shared=True), locked(final / MANIFEST, progress):
        return _pack(open_bundle(path), final, builds, progress, keep_references=keep_references, force=force)


def _pack(
    bundle: Bundle, final: Path, builds: Sequence[str], progress: Progress, *, keep_references: bool, force: bool
) -> Bundle:
    chosen = choose_builds(bundle, builds)
    progress("Checking the bundle's files")
    bundle.verify()
    for build in chosen:
        build.verify()
    with staged_directory(final, replace=force) as folder:
        progress("Copying what the runtime reads")
        sha256 = _write_manifest(bundle, folder, keep_references=keep_references)
        for build in chosen:
            _copy_build(build, folder / BUILDS / build.manifest.id, sha256)
    return open_bundle(final)


def choose_builds(bundle: Bundle, names: Sequence[str]) -> list[Build]:
    """The named builds, or the newest of this export if none is named.

    Raises:
        BundleError: One is missing or of another export.
    """
    builds, refused = bundle.read_builds()
    current = [build for build in builds if build.manifest.bundle_sha256 == bundle.sha256]
    if not names:
        if not current:
            raise BundleError(
                f"{bundle.path} has no build to pack.{reasons(refused)}", f"Make one: ptgc build {bundle.path}"
            )
        return [current[-1]]
    by_id = {build.manifest.id: build for build in current}
    return [by_id[name] if name in by_id else bundle.build(name) for name in names]


def _write_manifest(bundle: Bundle, folder: Path, *, keep_references: bool) -> str:
    """Copy the files that are kept and write their manifest; returns its digest."""
    manifest = bundle.manifest
    kept = [name for name in (manifest.tokenizer, manifest.drafter_tokenizer) if name]
    reference = manifest.reference if keep_references else None
    dropped = []
    for entry in manifest.files:
        if entry.path == reference or any(entry.path.startswith(f"{name}/") for name in kept):
            target = folder / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.path / entry.path, target)
        else:
            dropped.append(entry.path)
    before = manifest.packed
    packed = Packed(
        bundle_sha256=before.bundle_sha256 if before else bundle.sha256,
        dropped=tuple(sorted({*dropped, *(before.dropped if before else ())})),
    )
    write_manifest(folder, replace(manifest, files=list_files(folder), reference=reference, packed=packed))
    return open_bundle(folder).sha256


def _copy_build(build: Build, folder: Path, bundle_sha256: str) -> None:
    """Copy a build with its measurements, and tie it to the packed manifest."""
    for entry in build.manifest.files:
        target = folder / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(build.path / entry.path, target)
    for path in sorted((build.path / MEASURED).glob("*.json")):
        try:
            check_paths(build.path, [f"{MEASURED}/{path.name}"])
            content = read_regular(path)
        except (BundleError, UnreadableError):
            continue  # measurements can be repeated
        write_whole(folder / MEASURED / path.name, content)
    write_build_manifest(folder, replace(build.manifest, bundle_sha256=bundle_sha256))
