"""The bundles that parts run: folders, or archives as write_bundles.py makes them."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

from ptgc.spec.bundle import BUILDS, MANIFEST

SUFFIX = ".tar.xz"


def bundle_names(folder: str | None) -> list[str]:
    """The names of all bundles in a folder, the real model first; empty without a folder."""
    if folder is None:
        return []
    archives = [path.name.removesuffix(SUFFIX) for path in Path(folder).glob(f"*{SUFFIX}")]
    folders = [path.parent.name for path in Path(folder).glob(f"*/{MANIFEST}")]
    return sorted({*archives, *folders}, key=lambda name: (not name.startswith("stories"), name))


def own_bundle(name: str, folder: str, work: str) -> Path:
    """This run's own copy of a bundle, without builds; the original is not changed.

    Args:
        name: Name of the bundle.
        folder: Folder that contains it.
        work: The run's folder; a second call finds the copy there.
    """
    target = Path(work) / "bundles" / name
    if target.is_dir():
        return target
    aside = target.with_name(f".{name}.new")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    archive = Path(folder) / f"{name}{SUFFIX}"
    if archive.is_file():
        with tarfile.open(archive) as file:
            _extract_files(file, aside)
        (aside / name).rename(target)
        aside.rmdir()
    else:
        shutil.copytree(Path(folder) / name, aside, ignore=shutil.ignore_patterns(BUILDS), dirs_exist_ok=True)
        aside.rename(target)
    return target


def _extract_files(file: tarfile.TarFile, folder: Path) -> None:
    """Write the files of an archive, which contains nothing else, to a folder.

    `extractall(filter="data")` would do, but Python has it only from 3.11.4 on.
    """
    for member in file:
        content = file.extractfile(member)
        if content is None:
            continue
        path = (folder / member.name).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise ValueError(f"{file.name} has the file {member.name}, which would lie outside")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as written:
            shutil.copyfileobj(content, written)


def pack_bundle(bundle: Path) -> Path:
    """Replace a bundle's folder by an archive of it.

    Returns:
        The archive.
    """
    archive = bundle.with_name(f"{bundle.name}{SUFFIX}")
    with tarfile.open(archive, "w:xz") as file:
        file.add(bundle, arcname=bundle.name)
    shutil.rmtree(bundle)
    return archive
