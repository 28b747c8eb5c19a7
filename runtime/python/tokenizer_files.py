"""The files of a bundle's tokenizer: listed, unchanged, and inside the bundle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

from ptgc.errors import BundleError
from ptgc.spec.bundle import Bundle
from ptgc.spec.json_file import UnreadableError, decode_text, parse_json

_TOKENIZER = "tokenizer.json"


@dataclass(frozen=True)
class TokenizerFiles:
    """What stands in a tokenizer's folder; every reading checks size and hash of the bytes that it gives."""

    bundle: Bundle
    """Whose tokenizer."""
    folder: str
    """Its folder in the bundle."""

    def path(self, name: str) -> str:
        """A file's path in the bundle."""
        return f"{self.folder}/{name}"

    def names(self, folder: str) -> list[str]:
        """Names of the listed files in a folder of it, that folder's included."""
        start = self.path(folder) + "/"
        found = [entry.path for entry in self.bundle.manifest.files if entry.path.startswith(start)]
        return sorted(path.removeprefix(f"{self.folder}/") for path in found)

    def read(self, name: str) -> bytes | None:
        """The bytes of a file; None where the bundle lists none of that name.

        Raises:
            BundleError: It was changed, or cannot be read.
        """
        return self.bundle.read_file(self.path(name)) if self.bundle.lists(self.path(name)) else None

    def read_text(self, name: str) -> str | None:
        """The same as UTF-8 text.

        Raises:
            BundleError: It is none.
        """
        content = self.read(name)
        try:
            return None if content is None else decode_text(content)
        except UnreadableError as error:
            raise self.damage(name, error) from error

    def read_json(self, name: str) -> dict[str, Any]:
        """The object in a file; an empty one where there is no such file.

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
        """The error of a file that is as it was exported, and of no use."""
        return BundleError(f"{self.bundle.path / self.path(name)} {reason}.", "Export the bundle again.")


def read_tokenizer(files: TokenizerFiles) -> Tokenizer:
    """The tokenizer itself.

    Raises:
        BundleError: It is missing, was changed, or is none.
    """
    content = files.bundle.read_file(files.path(_TOKENIZER))
    try:
        return Tokenizer.from_buffer(content)
    except BaseException as error:  # the library raises bare exceptions, and what Rust panics with is none
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            raise
        raise files.damage(_TOKENIZER, f"is damaged: {error}") from error


def tokenizer_files(bundle: Bundle, folder: str | None) -> TokenizerFiles | None:
    """The files of a tokenizer; None where there is no folder."""
    return None if folder is None else TokenizerFiles(bundle, folder)
