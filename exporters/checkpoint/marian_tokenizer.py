"""Marian's tokenizers: two SentencePiece models, and one vocabulary that both sides share."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from ptgc.errors import CheckpointError
from ptgc.exporters.checkpoint.sentencepiece_bpe import template_with_ends
from ptgc.exporters.checkpoint.sentencepiece_model import (
    ModelType,
    PieceType,
    SentencePieceModel,
    read_sentencepiece_model,
)

FILES = ("source.spm", "target.spm", "vocab.json")
_SPACE = "▁"  # SentencePiece's symbol for a space
# Prefix of pieces that only the target has: they can be decoded, but no source is encoded with them.
_TARGET_ONLY = "\U0010fffd"
_UNKNOWN_RUN = "\U0010fffc"  # in no vocabulary
_UNKNOWN_PENALTY = 10.0  # SentencePiece's: score of an unknown character below the worst piece
_TOKENS = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


def is_marian(directory: Path) -> bool:
    """Whether a directory has the tokenizers of a Marian checkpoint, and in no other form."""
    return all((directory / name).is_file() for name in FILES) and not (directory / "tokenizer.json").is_file()


def load_marian_tokenizer(directory: Path, note: Callable[[str], None]) -> PreTrainedTokenizerFast | None:
    """Build the tokenizer that encodes sources as source.spm does and decodes tokens of either side.

    Returns:
        None, after a note, if sources and targets have different ids.

    Raises:
        CheckpointError: A file is damaged, or the files do not belong together.
    """
    settings_file = directory / "tokenizer_config.json"
    settings = _read_object(settings_file) if settings_file.is_file() else {}
    source = read_sentencepiece_model(directory / "source.spm")
    if settings.get("separate_vocabs"):
        note("sources and targets have vocabularies of their own, which one tokenizer cannot be: token ids only.")
        return None
    if source.type is not ModelType.UNIGRAM or source.byte_fallback:
        note(f"source.spm is a {source.type.name.lower()} model, which Marian's are not: token ids only.")
        return None
    pieces = _read_vocabulary(directory / "vocab.json")
    names = {name: _text_of(settings.get(name, default)) for name, default in _TOKENS.items()}
    missing = [text for text in names.values() if text not in pieces]
    if missing:
        raise CheckpointError(
            f"Cannot read the tokenizer of '{directory}': vocab.json lacks {', '.join(missing)}.", "Download it again."
        )
    absent = _scores(source).keys() - set(pieces)
    if absent:
        note(
            f"{len(absent)} pieces of source.spm are not in vocab.json, for example '{min(absent)}'; sources are "
            "spelled without them, where transformers writes the unknown token."
        )
    tokenizer = _tokenizer(source, pieces, names)
    length = settings.get("model_max_length")
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # not annotated
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        **names,
        **({"model_max_length": length} if isinstance(length, int) else {}),
    )


def _tokenizer(source: SentencePieceModel, pieces: list[str], names: dict[str, str]) -> Tokenizer:
    codes = [piece for piece in pieces if piece.startswith(">>") and piece.endswith("<<")]  # of target languages
    entries = _entries(source, pieces, {*names.values(), *codes})
    tokenizer = Tokenizer(models.Unigram(entries, unk_id=pieces.index(names["unk_token"])))
    steps: list[normalizers.Normalizer] = [normalizers.Precompiled(source.charsmap)] if source.charsmap else []
    steps.append(normalizers.Replace(_TARGET_ONLY, ""))
    if source.removes_extra_spaces:
        steps += [normalizers.Replace(Regex(" {2,}"), " "), normalizers.Strip(left=True, right=True)]
    if source.adds_prefix:
        steps.append(normalizers.Prepend(_SPACE))
    steps.append(normalizers.Replace(" ", _SPACE))
    # SentencePiece treats consecutive unknown characters as one piece, which no vocabulary has.
    known = "".join(map(re.escape, sorted({_SPACE, *"".join(_scores(source))})))
    steps.append(normalizers.Replace(Regex(f"[^{known}]{{2,}}"), _UNKNOWN_RUN))
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace(_TARGET_ONLY, ""),
            decoders.Replace(_SPACE, " "),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in names.values()])
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in codes])
    tokenizer.post_processor = template_with_ends(pieces, None, pieces.index(names["eos_token"]))
    return tokenizer


def _scores(source: SentencePieceModel) -> dict[str, float]:
    """The scores of the pieces that text can be split into."""
    usable = (PieceType.NORMAL, PieceType.USER_DEFINED)
    return {piece.text: piece.score for piece in source.pieces if piece.type in usable}


def _entries(source: SentencePieceModel, pieces: list[str], whole: set[str]) -> list[tuple[str, float]]:
    """The vocabulary in the order of its ids, with the scores of the source's pieces.

    A character unknown to the source's model keeps its id if the vocabulary has one, as in transformers.
    """
    scores = _scores(source)
    worst = min(scores.values(), default=0.0)
    known = set("".join(scores))
    entries = []
    for piece in pieces:
        if piece in scores or piece in whole:
            entries.append((piece, scores.get(piece, worst)))
        elif len(piece) == 1 and piece not in known:
            entries.append((piece, worst - _UNKNOWN_PENALTY))
        else:
            entries.append((_TARGET_ONLY + piece, worst))
    return entries


def _read_vocabulary(path: Path) -> list[str]:
    """The pieces in the order of their ids.

    Raises:
        CheckpointError: Ids are missing or given twice.
    """
    ids = _read_object(path)
    if sorted(ids.values(), key=str) != sorted(range(len(ids)), key=str):
        raise CheckpointError(
            f"Cannot read '{path}': its {len(ids)} ids are not 0 to {len(ids) - 1}.", "Download it again."
        )
    return sorted(ids, key=ids.__getitem__)


def _read_object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"Cannot read '{path}': it is not JSON ({error}).", "Download it again.") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"Cannot read '{path}': it is not a JSON object.", "Download it again.")
    return found


def _text_of(token: Any) -> str:
    """The text of a special token in tokenizer_config.json, which may be a string or an object."""
    return str(token["content"]) if isinstance(token, dict) and "content" in token else str(token)
