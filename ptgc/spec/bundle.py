"""Bundle: a directory with a manifest, opened, listed and verified."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

from ptgc.errors import BackendError, BundleError
from ptgc.spec.build_manifest import BuildManifest
from ptgc.spec.manifest import FileEntry, Manifest, check_readable, dumps

MANIFEST = "manifest.json"
BUILD_MANIFEST = "build.json"
BUILDS = "builds"
MEASURED = "measured"
RUNNABLE = ("onnxruntime",)
"""Backends whose builds are run unasked; engines of others are experimental, and run where their build is named."""
_HASH_BLOCK = 1 << 20  # bytes


@dataclass(frozen=True)
class Build:
    """One build on disk."""

    path: Path
    """Its folder."""
    manifest: BuildManifest
    """Its build.json."""

    def verify(self, *, hashes: bool = True) -> None:
        """Check that its files are those that were built.

        Raises:
            BundleError: Naming the file and the difference.
        """
        again = f"Build it again: ptgc build {self.path.parent.parent} --id {self.manifest.id} --replace"
        verify_files(self.path, self.manifest.files, again, hashes=hashes)


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk."""

    path: Path
    """Its folder."""
    manifest: Manifest
    """Its manifest.json."""
    sha256: str
    """Digest of the manifest's bytes."""

    def verify(self, *, hashes: bool = True) -> None:
        """Check that its files are those that were exported, builds apart.

        Raises:
            BundleError: Naming the file and the difference.
        """
        verify_files(self.path, self.manifest.files, "Export the bundle again.", hashes=hashes)

    def builds(self) -> list[Build]:
        """All builds, oldest first."""
        folder = self.path / BUILDS
        # Hidden folders are what a build writes into before it is whole.
        paths = [path for path in sorted(folder.glob(f"*/{BUILD_MANIFEST}")) if path.parent.name[0] != "."]
        found = [open_build(path.parent) for path in paths]
        return sorted(found, key=lambda build: (build.manifest.sequence, build.manifest.id))

    def build(self, build_id: str | None = None, device: str = "cpu") -> Build:
        """The build of that name, or the newest one for the device.

        Raises:
            BundleError: There is none, or the one named was made from another export or for another device.
            BackendError: There are builds of backends only that are not run unasked.
        """
        builds = self.builds()
        make = self._how_to_build("" if device == "cpu" else f" --device {device}")
        if build_id is not None:
            named = [build for build in builds if build.manifest.id == build_id]
            if not named:
                known = ", ".join(build.manifest.id for build in builds) or "none"
                make = self._how_to_build(f" --id {build_id}")
                raise BundleError(f"{self.path} has no build '{build_id}'; it has: {known}.", make)
            self._check_fits(named[0], device)
            return named[0]
        current = [b for b in builds if b.manifest.device == device and b.manifest.bundle_sha256 == self.sha256]
        fitting = [build for build in current if build.manifest.backend in RUNNABLE]
        if current and not fitting:
            _refuse_unasked(current[-1])
        if not fitting:
            raise BundleError(f"{self.path} has no build for device '{device}'.", make)
        return fitting[-1]

    def require_graphs(self, purpose: str) -> None:
        """Refuse a packed bundle for what reads the canonical graphs.

        Args:
            purpose: What needs them, as the beginning of a sentence.

        Raises:
            BundleError: They were left out; says where they are.
        """
        if self.manifest.packed is not None:
            raise BundleError(
                f"{purpose} needs the canonical graphs, which `ptgc pack` left out of {self.path}.",
                f"Use the bundle that it was packed from: {self._origin()}.",
            )

    def _how_to_build(self, options: str) -> str:
        if self.manifest.packed is None:
            return f"Make one: ptgc build {self.path}{options}"
        return f"Make one of the bundle that this was packed from ({self._origin()}), and pack that again."

    def _origin(self) -> str:
        """How to recognise the bundle that this one was packed from."""
        packed = self.manifest.packed
        assert packed is not None
        source = self.manifest.provenance.get("source", "a module")
        return f"an export of {source} whose {MANIFEST} has the sha256 {packed.bundle_sha256[:16]}..."

    def _check_fits(self, build: Build, device: str) -> None:
        if build.manifest.device != device:
            raise BundleError(
                f"Build '{build.manifest.id}' is for device '{build.manifest.device}', not '{device}'.",
                f"Make one: ptgc build {self.path} --device {device}",
            )
        if build.manifest.bundle_sha256 != self.sha256:
            raise BundleError(
                f"Build '{build.manifest.id}' was made from another export of this bundle.",
                f"Build it again: ptgc build {self.path} --id {build.manifest.id} --replace",
            )


def _refuse_unasked(build: Build) -> NoReturn:
    done = "compiled" if build.manifest.engines else "prepared"
    name, backend, bundle = build.manifest.id, build.manifest.backend, build.path.parent.parent
    raise BackendError(
        f"Build '{name}' was {done} for {backend}, whose engines are experimental: they run only where their build is "
        "named.",
        f"Name it (--build {name}), or make one that is run unasked: ptgc build {bundle} --device "
        f"{build.manifest.device}",
    )


def open_bundle(path: str | Path) -> Bundle:
    """Open a bundle and check its manifest; the files' sizes are checked, their hashes are not.

    Raises:
        BundleError: No bundle, or a truncated, edited, unsafe or newer one.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise BundleError(f"There is no bundle at {folder}.", "Make one: ptgc export MODEL -o BUNDLE")
    document, digest = _read(folder / MANIFEST, "Export the bundle again.")
    try:
        manifest = Manifest.from_json(document)
    except (KeyError, ValueError, TypeError, AssertionError) as error:
        raise BundleError(f"{folder / MANIFEST} is damaged: {error!r}.", "Export the bundle again.") from error
    bundle = Bundle(folder, manifest, digest)
    _check_paths(folder, [role.graph for role in manifest.roles.values()])
    bundle.verify(hashes=False)
    return bundle


def open_build(path: Path) -> Build:
    """Open a build and check its build.json; the files' sizes are checked, their hashes are not.

    Raises:
        BundleError: A truncated, edited, unsafe or newer one.
    """
    again = f"Build it again: ptgc build {path.parent.parent} --id {path.name} --replace"
    document, _ = _read(path / BUILD_MANIFEST, again)
    try:
        manifest = BuildManifest.from_json(document)
    except (KeyError, ValueError, TypeError, AssertionError) as error:
        raise BundleError(f"{path / BUILD_MANIFEST} is damaged: {error!r}.", again) from error
    build = Build(path, manifest)
    _check_paths(path, [role.graph for role in manifest.roles.values()])
    build.verify(hashes=False)
    return build


def _read(path: Path, action: str) -> tuple[dict[str, Any], str]:
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise BundleError(f"{path} is missing: {path.parent} is no bundle, or an incomplete one.", action) from error
    try:
        document = json.loads(content)
    except (ValueError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is not valid JSON: {error}.", action) from error
    return check_readable(document, str(path)), hashlib.sha256(content).hexdigest()


def _check_paths(folder: Path, paths: Iterable[str]) -> None:
    """Refuse any path that leaves the folder, by its text or through a link."""
    root = folder.resolve()
    for path in paths:
        pure = PurePosixPath(path)
        if pure.is_absolute() or ".." in pure.parts or "\\" in path or not path:
            raise BundleError(f"{folder} names a file outside itself: '{path}'.", "Do not use this bundle.")
        if not (folder / path).resolve().is_relative_to(root):
            raise BundleError(f"'{path}' in {folder} is a link to a file outside it.", "Do not use this bundle.")


def verify_files(folder: Path, files: Sequence[FileEntry], action: str, *, hashes: bool) -> None:
    """Check that every file is there, whole and unchanged.

    Raises:
        BundleError: Naming the first file that is missing, of another size or of another hash.
    """
    _check_paths(folder, [entry.path for entry in files])
    for entry in files:
        path = folder / entry.path
        if not path.is_file():
            raise BundleError(f"{path} is missing.", action)
        size = path.stat().st_size
        if size != entry.size:
            raise BundleError(f"{path} has {size} bytes, not the {entry.size} of its manifest.", action)
        if hashes and sha256(path) != entry.sha256:
            raise BundleError(f"{path} has been changed: its sha256 is not that of its manifest.", action)


def sha256(path: Path) -> str:
    """The hexadecimal digest of a file."""
    digest = hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        while block := file.read(_HASH_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def list_files(folder: Path) -> tuple[FileEntry, ...]:
    """Entries for every file below a folder, by path."""
    found = []
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_file():
            found.append(FileEntry(relative, path.stat().st_size, sha256(path)))
    return tuple(found)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json."""
    (folder / MANIFEST).write_text(dumps(manifest.to_json()), encoding="utf-8")


def write_build_manifest(folder: Path, manifest: BuildManifest) -> None:
    """Write build.json."""
    (folder / BUILD_MANIFEST).write_text(dumps(manifest.to_json()), encoding="utf-8")
