"""Tokenizers that encode like a SentencePiece BPE vocabulary with scores (Llama 1 and 2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

_SPACE = "▁"  # SentencePiece's symbol for a space


@dataclass(frozen=True)
class SentencePieceVocabulary:
    """The pieces of a SentencePiece BPE model.

    Attributes:
        pieces: Text of every token id, spaces written as "▁", single bytes as "<0x0A>".
        scores: Score of every token id; of two possible merges, the one with the higher score wins.
        unmergeable_ids: Tokens that merging never produces: unknown, control and byte tokens.
        special_ids: Tokens that are recognised as a whole in text and left out when decoding.
        unknown_id: Token for text that the vocabulary cannot spell.
        bos_id: Token put before every text; None for none.
        eos_id: Token put after every text; None for none.
        prefix_space: Whether a space is put before every text.
    """

    pieces: list[str]
    scores: list[float]
    unmergeable_ids: frozenset[int]
    special_ids: tuple[int, ...]
    unknown_id: int | None
    bos_id: int | None = None
    eos_id: int | None = None
    prefix_space: bool = True


def tokenizer_from_sentencepiece(vocabulary: SentencePieceVocabulary) -> Tokenizer:
    """Build the tokenizer; bytes outside the vocabulary fall back to their "<0x0A>" tokens."""
    pieces = vocabulary.pieces
    unknown = None if vocabulary.unknown_id is None else pieces[vocabulary.unknown_id]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={piece: token_id for token_id, piece in enumerate(pieces)},
            merges=merges_from_scores(vocabulary),
            unk_token=unknown,
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    to_pieces: list[normalizers.Normalizer] = [normalizers.Replace(" ", _SPACE)]
    to_text: list[decoders.Decoder] = [
        decoders.Replace(_SPACE, " "),
        decoders.ByteFallback(),
        decoders.Fuse(),
    ]
    if vocabulary.prefix_space:
        to_pieces.insert(0, normalizers.Prepend(_SPACE))
        to_text.append(decoders.Strip(" ", 1, 0))
    tokenizer.normalizer = normalizers.Sequence(to_pieces)
    tokenizer.decoder = decoders.Sequence(to_text)
    tokenizer.add_special_tokens(
        [AddedToken(pieces[token_id], normalized=False, special=True) for token_id in vocabulary.special_ids]
    )
    tokenizer.post_processor = template_with_ends(pieces, vocabulary.bos_id, vocabulary.eos_id)
    return tokenizer


def template_with_ends(pieces: list[str], bos_id: int | None, eos_id: int | None) -> processors.TemplateProcessing:
    """Put the first and the last token around a text, and around each text of a pair."""
    front = [] if bos_id is None else [pieces[bos_id]]
    back = [] if eos_id is None else [pieces[eos_id]]
    ends = {pieces[token_id]: token_id for token_id in (bos_id, eos_id) if token_id is not None}
    return processors.TemplateProcessing(
        single=[*front, "$A", *back],
        pair=[
            *front,
            "$A",
            *back,
            *(f"{token}:1" for token in front),
            "$B:1",
            *(f"{token}:1" for token in back),
        ],
        special_tokens=list(ends.items()),
    )


def merges_from_scores(vocabulary: SentencePieceVocabulary) -> list[tuple[str, str]]:
    """Derive ordered BPE merges: every split of a piece into two pieces, best score first.

    SentencePiece stores no merges: it joins the two neighbours whose joined piece has the highest score.
    """
    token_ids = {
        piece: token_id
        for token_id, piece in enumerate(vocabulary.pieces)
        if token_id not in vocabulary.unmergeable_ids
    }
    by_score = sorted(token_ids.items(), key=lambda entry: -vocabulary.scores[entry[1]])
    return [split for piece, _ in by_score for split in _splits(piece, token_ids)]


def _splits(piece: str, token_ids: dict[str, int]) -> Iterator[tuple[str, str]]:
    halves = ((piece[:cut], piece[cut:]) for cut in range(1, len(piece)))
    known = [(left, right) for left, right in halves if left in token_ids and right in token_ids]
    yield from sorted(known, key=lambda pair: (token_ids[pair[0]], token_ids[pair[1]]))
