"""Makes datastores: texts as tokens, and where each sequence of tokens occurs in them (REST, arXiv 2311.08252)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ptgc.errors import StorageError, UsageError
from ptgc.runtime import _core
from ptgc.runtime.text import TextCodec
from ptgc.runtime.tokenizer_files import tokenizer_files
from ptgc.spec.bundle import open_bundle
from ptgc.spec.output import check_output_file, is_bundle
from ptgc.spec.staging import staged_file
from ptgc.spec.vocabulary import vocabulary_sha256
from ptgc.texts.documents import read_documents

_BATCH = 1 << 22  # characters that are tokenised at once, on all processors


@dataclass(frozen=True)
class Datastore:
    """What is in a datastore."""

    path: Path
    """The file."""
    size: int
    """Its bytes."""
    documents: int
    """Number of texts."""
    tokens: int
    """Tokens of all texts, an end of each included."""
    vocab_size: int
    """Tokens are below this."""
    vocabulary_sha256: str
    """The vocabulary of the tokenizer."""

    @staticmethod
    def open(path: Path) -> Datastore:
        """Read what a file holds.

        Raises:
            BundleError: It is no datastore, or a damaged one.
        """
        found = _core.Datastore(path)
        size = path.stat().st_size
        return Datastore(path, size, found.num_documents, found.num_tokens, found.vocab_size, found.vocabulary_sha256)


def find_tokenizer(path: Path) -> TextCodec:
    """The tokenizer of a bundle or a checkpoint.

    Raises:
        UsageError: It has none.
    """
    if is_bundle(path):
        bundle = open_bundle(path)
        files = tokenizer_files(bundle, bundle.manifest.tokenizer)
        if files is not None:
            return TextCodec(files)
        raise UsageError(f"The bundle {path} has no tokenizer.", "Export it from a checkpoint that has one.")
    if not (path / "tokenizer.json").is_file():
        raise UsageError(
            f"{path} is no bundle, and no folder with a tokenizer.json.",
            "Export the checkpoint, and name the bundle with --tokenizer.",
        )
    return TextCodec(path)


def make_datastore(
    texts: Sequence[Path],
    codec: TextCodec,
    output: Path,
    *,
    force: bool = False,
    progress: Callable[[str], None] = lambda _: None,
    note: Callable[[str], None] = lambda _: None,
) -> Datastore:
    """Write a datastore of texts; the file appears whole or not at all.

    Args:
        texts: Text files, .jsonl files, and folders of them; - is stdin.
        codec: The tokenizer.
        output: The file.
        force: Whether an existing file is replaced.
        progress: Called with each step.
        note: Called with what was left out.

    Raises:
        UsageError: A text cannot be read, or there is none.
        StorageError: `output` exists and `force` is not set, or it cannot be written.
    """
    _check_output(output, texts, force=force)
    vocabulary = codec.tokenizer.get_vocab(with_added_tokens=True)
    writer = _core.DatastoreWriter(max(vocabulary.values(), default=0) + 1, vocabulary_sha256(vocabulary))
    written = 0
    for batch in _batches(read_documents(texts, codec, note)):
        pieces = [piece for piece in batch if piece is not None]
        encoded = iter(codec.tokenizer.encode_batch(pieces, add_special_tokens=False))
        for piece in batch:
            if piece is None:
                writer.end_document()
            else:
                writer.append(next(encoded).ids)
        written += sum(map(len, pieces))
        progress(f"Tokenised {written / 1e6:.0f} million characters")
    if not written:
        raise UsageError("The texts are empty.", "Name files that hold text.")
    progress("Sorting")
    with staged_file(output.resolve()) as made:
        writer.write(made)
    return Datastore.open(output)


def _check_output(output: Path, texts: Sequence[Path], *, force: bool) -> None:
    check_output_file(output)
    if not output.exists():
        return
    if not output.is_file():
        raise StorageError(f"{output} is no regular file; it will not be replaced.", "Choose another name with -o.")
    if any(text.exists() and text.samefile(output) for text in texts):
        raise StorageError(f"{output} is one of the texts.", "Choose another name with -o.")
    if not force:
        raise StorageError(f"{output} exists already.", "Choose another name with -o, or add --force to replace it.")


def _batches(pieces: Iterable[str | None]) -> Iterator[list[str | None]]:
    """Pieces that are tokenised together; None ends a document."""
    batch: list[str | None] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += len(piece or "")
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
