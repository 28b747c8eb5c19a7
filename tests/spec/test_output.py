"""The output path of a command is checked before work begins."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ptgc.errors import StorageError
from ptgc.spec.output import check_bundle_output, check_output_file, write_output


def a_bundle(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"schema_version": 1, "roles": {}}))
    return folder


def dangling(place: Path) -> Path:
    (place / "link").symlink_to(place / "nowhere")
    return place / "link"


def link_to_a_folder(place: Path) -> Path:
    (place / "link").symlink_to(a_bundle(place / "bundle"))
    return place / "link"


def in_a_circle(place: Path) -> Path:
    (place / "link").symlink_to(place / "link")
    return place / "link" / "bundle"


def file(place: Path) -> Path:
    (place / "file").write_text("x")
    return place / "file"


def below_a_file(place: Path) -> Path:
    return file(place) / "a" / "bundle"


def another_programs_folder(place: Path) -> Path:
    (place / "app").mkdir()
    (place / "app" / "manifest.json").write_text('{"manifest_version": 3}')
    return place / "app"


def in_a_bundle(place: Path) -> Path:
    return a_bundle(place / "bundle") / "builds" / "new"


def long_name(place: Path) -> Path:
    return place / ("x" * 300)


def long_path(place: Path) -> Path:
    return place / "/".join(["x" * 200] * 20)


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(
    ("make", "words"),
    [
        (dangling, "a link that leads nowhere"),
        (link_to_a_folder, "is a link to"),
        (in_a_circle, "circle"),
        (file, "is no bundle"),
        (below_a_file, "no folder"),
        (another_programs_folder, "is no bundle"),
        (in_a_bundle, "lies in the bundle"),
        (long_name, "name is too long"),
        (long_path, "name is too long"),
    ],
)
def test_where_no_bundle_can_be_is_refused_and_stays(
    make: Callable[[Path], Path], words: str, force: bool, tmp_path: Path
) -> None:
    output = make(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(StorageError, match=words):
        check_bundle_output(output, force=force)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_is_not_there_yet_is_fine_and_is_not_made(tmp_path: Path) -> None:
    assert check_bundle_output(tmp_path / "a" / "b" / "c", force=False) == tmp_path / "a" / "b" / "c"
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_is_replaced_only_by_force_and_never_with_what_is_read_in_it(tmp_path: Path) -> None:
    bundle = a_bundle(tmp_path / "bundle")
    with pytest.raises(StorageError, match="exists already") as raised:
        check_bundle_output(bundle, force=False)
    assert "--force" in raised.value.action
    check_bundle_output(bundle, force=True)
    model = bundle / "model"
    model.mkdir()
    for source in (bundle, model):
        with pytest.raises(StorageError, match="holds what is read"):
            check_bundle_output(bundle, force=True, sources=(source,))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(StorageError, match="permission denied"):
        check_bundle_output(tmp_path / "closed" / "bundle", force=False)


def test_a_file_takes_the_place_of_another_where_its_link_leads(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.write_text("old")
    real.chmod(0o640)
    (tmp_path / "link").symlink_to(real)
    check_output_file(tmp_path / "link")
    write_output(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (real.read_text(), real.stat().st_mode & 0o777) == ("new", 0o640)
    with pytest.raises(StorageError, match="is a folder"):
        check_output_file(tmp_path)


def test_devices_and_pipes_are_written_as_they_are(tmp_path: Path) -> None:
    for path in (Path("/dev/null"), Path("/dev/stderr")):
        check_output_file(path)
        write_output(path, b"")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(StorageError, match="the disk is full"):
        write_output(Path("/dev/full"), b"x")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    write_output(pipe, b"x")
    assert os.read(reader, 9) == b"x"
    os.close(reader)
