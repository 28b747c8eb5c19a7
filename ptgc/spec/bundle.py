"""Bundle: opens, lists and verifies a directory with a manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ptgc.errors import BackendError, BundleError
from ptgc.spec.build_manifest import BuildManifest
from ptgc.spec.bundle_files import check_paths, read_listed, readable, verify_files
from ptgc.spec.fields import refuse
from ptgc.spec.fitting import shape_problems
from ptgc.spec.json_file import MissingError, UnreadableError, parse_json, read_regular
from ptgc.spec.manifest import Manifest, check_readable, dumps
from ptgc.spec.role import Role

MANIFEST = "manifest.json"
BUILD_MANIFEST = "build.json"
BUILDS = "builds"
MEASURED = "measured"
RUNNABLE = ("onnxruntime",)
"""Backends whose builds are selected by default; others are experimental, and run only if their build is named."""
_EXPORT_AGAIN = "Export the bundle again."


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
            BundleError: The error names the file and the difference.
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
        """Check that its files, except for builds, are those that were exported.

        Raises:
            BundleError: The error names the file and the difference.
        """
        verify_files(self.path, self.manifest.files, _EXPORT_AGAIN, hashes=hashes)

    def read_file(self, path: str) -> bytes:
        """The bytes of a listed file, after checking that they are those that were exported.

        Raises:
            BundleError: It is not listed, or is not what was exported.
        """
        entry = next((one for one in self.manifest.files if one.path == path), None)
        if entry is None:
            raise BundleError(f"{self.path / path} is not listed in {MANIFEST}.", _EXPORT_AGAIN)
        return read_listed(self.path, entry, _EXPORT_AGAIN)

    def lists(self, path: str) -> bool:
        """Whether a file is part of the bundle."""
        return any(entry.path == path for entry in self.manifest.files)

    def builds(self) -> list[Build]:
        """All builds that can be read, oldest first."""
        return self.read_builds()[0]

    def read_builds(self) -> tuple[list[Build], dict[str, BundleError]]:
        """All builds that can be read, oldest first, and by folder why the others cannot."""
        # Hidden folders hold builds that are not complete yet.
        found, refused = [], {}
        for path in sorted((self.path / BUILDS).glob(f"[!.]*/{BUILD_MANIFEST}")):
            try:
                check_paths(self.path, [path.relative_to(self.path).as_posix()])
                found.append(open_build(path.parent, self.manifest))
            except BundleError as error:
                refused[path.parent.name] = error
        return sorted(found, key=lambda build: (build.manifest.sequence, build.manifest.id)), refused

    def build(self, build_id: str | None = None, device: str = "cpu") -> Build:
        """The build of that name, or the newest one for the device.

        Raises:
            BundleError: There is none, or the one named was made from another export or for another device.
            BackendError: The only builds are of backends that are not selected by default.
        """
        builds, refused = self.read_builds()
        make = self._how_to_build("" if device == "cpu" else f" --device {device}")
        if build_id is not None:
            named = [build for build in builds if build.manifest.id == build_id]
            if not named and build_id in refused:
                raise refused[build_id]
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
            raise BundleError(f"{self.path} has no build for device '{device}'.{reasons(refused)}", make)
        return fitting[-1]

    def require_graphs(self, purpose: str) -> None:
        """Refuse a packed bundle where canonical graphs are needed.

        Args:
            purpose: What needs them, as the beginning of a sentence.

        Raises:
            BundleError: They were left out; the error says where they are.
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


def reasons(refused: Mapping[str, BundleError]) -> str:
    """Why builds cannot be read, as further lines of a message."""
    return "".join(f"\nBuild '{name}' cannot be read: {error.message}" for name, error in refused.items())


def _refuse_unasked(build: Build) -> NoReturn:
    done = "compiled" if build.manifest.engines else "prepared"
    name, backend, bundle = build.manifest.id, build.manifest.backend, build.path.parent.parent
    raise BackendError(
        f"Build '{name}' was {done} for {backend}, whose engines are experimental: they run only where their build is "
        "named.",
        f"Name it (--build {name}), or make one that is selected by default: ptgc build {bundle} --device "
        f"{build.manifest.device}",
    )


def open_bundle(path: str | Path) -> Bundle:
    """Open a bundle and check its manifest; the files' sizes are checked, their hashes are not.

    Raises:
        BundleError: There is no bundle, or it is truncated, edited, unsafe or of a newer ptgc.
    """
    folder = Path(path)
    with readable(folder, "Make one: ptgc export MODEL -o BUNDLE"):
        if not folder.is_dir():
            raise BundleError(f"There is no bundle at {folder}.", "Make one: ptgc export MODEL -o BUNDLE")
    check_paths(folder, [MANIFEST])
    document, digest = _read(folder / MANIFEST, _EXPORT_AGAIN)
    with readable(folder / MANIFEST, _EXPORT_AGAIN):
        bundle = Bundle(folder, Manifest.from_json(document), digest)
    check_paths(folder, _named_paths(bundle.manifest.roles))
    bundle.verify(hashes=False)
    return bundle


def open_build(path: Path, bundle: Manifest | None = None) -> Build:
    """Open a build and check its build.json; the files' sizes are checked, their hashes are not.

    Args:
        path: Its folder.
        bundle: The manifest that it must fit; None skips this check.

    Raises:
        BundleError: The build is truncated, edited, unsafe or of a newer ptgc.
    """
    again = f"Build it again: ptgc build {path.parent.parent} --id {path.name} --replace"
    document, _ = _read(path / BUILD_MANIFEST, again)
    with readable(path / BUILD_MANIFEST, again):
        build = Build(path, BuildManifest.from_json(document))
        if bundle is not None:
            made = build.manifest
            refuse(shape_problems(bundle.plan, bundle.model, made.shapes, made.roles, bundle.roles))
    check_paths(path, _named_paths(build.manifest.roles))
    build.verify(hashes=False)
    return build


def _read(path: Path, action: str) -> tuple[dict[str, Any], str]:
    try:
        content = read_regular(path)
    except MissingError as error:
        raise BundleError(f"{path} is missing: {path.parent} is no bundle, or an incomplete one.", action) from error
    except UnreadableError as error:
        raise BundleError(f"{path} {error}.", action) from error
    with readable(path, action):
        document = parse_json(content)
    return check_readable(document, str(path)), hashlib.sha256(content).hexdigest()


def _named_paths(roles: Mapping[str, Role]) -> list[str]:
    return [role.graph for role in roles.values()]


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write manifest.json."""
    (folder / MANIFEST).write_text(dumps(manifest.to_json()), encoding="utf-8")


def write_build_manifest(folder: Path, manifest: BuildManifest) -> None:
    """Write build.json."""
    (folder / BUILD_MANIFEST).write_text(dumps(manifest.to_json()), encoding="utf-8")
