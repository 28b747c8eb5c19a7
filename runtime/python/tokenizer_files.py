"""The files of a tokenizer; those of a bundle must be listed, unchanged and inside it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from ptgc.errors import BundleError
from ptgc.spec.bundle import Bundle
from ptgc.spec.json_file import MissingError, UnreadableError, decode_text, parse_json, read_regular

_TOKENIZER = "tokenizer.json"


class TokenizerFiles(ABC):
    """The files in a tokenizer's folder."""

    @property
    @abstractmethod
    def place(self) -> Path:
        """The folder."""

    @abstractmethod
    def names(self, folder: str) -> list[str]:
        """Names of the files in one of its folders, including that folder's name."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None if there is none of that name.

        Raises:
            BundleError: It was changed, or cannot be read.
        """

    def read_text(self, name: str) -> str | None:
        """The same as UTF-8 text.

        Raises:
            BundleError: It is not UTF-8.
        """
        content = self.read(name)
        try:
            return None if content is None else decode_text(content)
        except UnreadableError as error:
            raise self.damage(name, error) from error

    def read_json(self, name: str) -> dict[str, Any]:
        """The object in a file; an empty one if there is no such file.

        Raises:
            BundleError: It holds something else.
        """
        content = self.read(name)
        try:
            document = {} if content is None else parse_json(content)
        except UnreadableError as error:
            raise self.damage(name, error) from error
        if not isinstance(document, dict):
            raise self.damage(name, "is damaged: it holds no object")
        return document

    def damage(self, name: str, reason: object) -> BundleError:
        """The error for a file that cannot be used."""
        return BundleError(f"{self.place / name} {reason}.", "Export the bundle again.")


@dataclass(frozen=True)
class BundledFiles(TokenizerFiles):
    """The files of a bundle; every read checks the size and hash of the bytes."""

    bundle: Bundle
    """The bundle of the tokenizer."""
    folder: str
    """Its folder in the bundle."""

    @property
    def place(self) -> Path:
        """The folder."""
        return self.bundle.path / self.folder

    def names(self, folder: str) -> list[str]:
        """Names of the listed files in one of its folders, including that folder's name."""
        start = f"{self.folder}/{folder}/"
        found = [entry.path for entry in self.bundle.manifest.files if entry.path.startswith(start)]
        return sorted(path.removeprefix(f"{self.folder}/") for path in found)

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None if the bundle lists none of that name.

        Raises:
            BundleError: It was changed, or cannot be read.
        """
        path = f"{self.folder}/{name}"
        return self.bundle.read_file(path) if self.bundle.lists(path) else None


@dataclass(frozen=True)
class FolderFiles(TokenizerFiles):
    """The files of a folder that belongs to no bundle; they are not verified."""

    folder: Path
    """Where they are."""

    @property
    def place(self) -> Path:
        """The folder."""
        return self.folder

    def names(self, folder: str) -> list[str]:
        """Names of the files in one of its folders, including that folder's name."""
        return sorted(f"{folder}/{path.name}" for path in (self.folder / folder).glob("*") if path.is_file())

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None if there is none of that name.

        Raises:
            BundleError: It cannot be read.
        """
        try:
            return read_regular(self.folder / name, most=None)
        except MissingError:
            return None
        except UnreadableError as error:
            raise self.damage(name, error) from error


def read_tokenizer(files: TokenizerFiles) -> Tokenizer:
    """The tokenizer itself.

    Raises:
        BundleError: It is missing, was changed, or is not a tokenizer.
    """
    content = files.read(_TOKENIZER)
    if content is None:
        raise files.damage(_TOKENIZER, "is missing")
    try:
        return Tokenizer.from_buffer(content)
    except BaseException as error:  # the library raises bare Exceptions, and Rust panics are BaseExceptions
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise files.damage(_TOKENIZER, f"is damaged: {error}") from error


def tokenizer_files(bundle: Bundle, folder: str | None) -> TokenizerFiles | None:
    """The files of a tokenizer; None if there is no folder."""
    return None if folder is None else BundledFiles(bundle, folder)
