"""The tokenizer that a GGUF file describes in its metadata."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, TypeVar

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ptgc.errors import CheckpointError
from ptgc.exporters.checkpoint.gguf_file import GgufFile
from ptgc.exporters.checkpoint.gguf_special_tokens import BYTE_LEVEL, SENTENCEPIECE, SpecialTokens, read_special_tokens
from ptgc.exporters.checkpoint.sentencepiece_bpe import (
    SentencePieceVocabulary,
    template_with_ends,
    tokenizer_from_sentencepiece,
)

_Entry = TypeVar("_Entry", int, float, str)

# How text is split before merging, by `tokenizer.ggml.pre`. A wrong split gives wrong tokens without any error,
# so unknown names are refused.
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_PUNCTUATION_AND_SPACE = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN2 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_PUNCTUATION_AND_SPACE}"
_LLAMA3 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_PUNCTUATION_AND_SPACE}"
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_REGEXES = {
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "falcon3": _LLAMA3,
    "pixtral": _LLAMA3,
    "midm-2.0": _LLAMA3,
    "lfm2": _LLAMA3,
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "kormo": _QWEN2,
    "megrez": _QWEN2,
    "tekken": _TEKKEN,
}
_GPT2 = {"gpt2", "gpt-2", "phi-2", "gigachat", "a.x-4.0", "mellum", "exaone4", "mpt", "olmo", "jais"}
_SINGLE_DIGITS = {"smollm", "starcoder", "refact", "command-r", "codeshell"}  # every digit alone, the rest as GPT-2
_DEFAULT = "default"  # llama.cpp's default if a file does not say: these splits in sequence
_DEFAULT_CUTS = (
    r"[\p{P}\$\+<=>\^~\|]+",
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
    r"\p{N}+",
    r"[0-9][0-9][0-9]",
)
# A word that is itself a token is taken without merging.
_WHOLE_WORDS_FIRST = {*(name for name, regex in _REGEXES.items() if regex == _LLAMA3), "tekken"}
_NORMALIZED = {"qwen2", "deepseek-r1-qwen", "kormo", "megrez"}  # to Unicode NFC


class _TokenType(IntEnum):
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


def load_tokenizer(gguf: GgufFile, note: Callable[[str], None] = lambda _: None) -> PreTrainedTokenizerFast | None:
    """Build the tokenizer of a GGUF file, with its special tokens and chat template.

    Args:
        gguf: The file.
        note: Called with remarks about it.

    Returns:
        None if the file holds no vocabulary.

    Raises:
        CheckpointError: The vocabulary is incomplete or of an unknown kind.
    """
    model = gguf.metadata.get("tokenizer.ggml.model")
    if model is None or model == "none":
        return None
    if model not in (SENTENCEPIECE, BYTE_LEVEL):
        raise _refused(gguf, f"its kind is '{model}', known are 'llama' (SentencePiece) and 'gpt2' (bytes)")
    if model == BYTE_LEVEL and "tokenizer.ggml.pre" not in gguf.metadata:
        note(
            "the GGUF file does not say how its tokenizer cuts text (tokenizer.ggml.pre is missing); it is cut by "
            "llama.cpp's default, which few models were trained with: convert the model again, or expect worse text."
        )
    special = read_special_tokens(gguf)
    try:
        tokenizer = _sentencepiece(gguf, special) if model == SENTENCEPIECE else _byte_level(gguf, special)
        return _with_names(gguf, tokenizer, special)
    except CheckpointError:
        raise
    except Exception as error:  # tokenizers raises plain Exception for an inconsistent vocabulary
        raise _refused(gguf, f"its vocabulary is inconsistent ({error})") from error


def _sentencepiece(gguf: GgufFile, special: SpecialTokens) -> Tokenizer:
    pieces, types = _pieces_and_types(gguf, special)
    unmergeable = (_TokenType.UNKNOWN, _TokenType.CONTROL, _TokenType.BYTE)
    tokenizer = tokenizer_from_sentencepiece(
        SentencePieceVocabulary(
            pieces=pieces,
            scores=_list(gguf, "scores", float, len(pieces)),
            unmergeable_ids=frozenset(index for index, type_ in enumerate(types) if type_ in unmergeable),
            special_ids=_special_ids(types),
            unknown_id=special.unknown,
            bos_id=special.bos if special.adds_bos else None,
            eos_id=special.eos if special.adds_eos else None,
            prefix_space=bool(gguf.metadata.get("tokenizer.ggml.add_space_prefix", True)),
        )
    )
    _add_user_defined(tokenizer, pieces, types)
    return tokenizer


def _byte_level(gguf: GgufFile, special: SpecialTokens) -> Tokenizer:
    pieces, types = _pieces_and_types(gguf, special)
    cut = str(gguf.metadata.get("tokenizer.ggml.pre", _DEFAULT))
    merges = [_merge(text) for text in _list(gguf, "merges", str)]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={piece: token_id for token_id, piece in enumerate(pieces)},
            merges=merges,
            ignore_merges=cut in _WHOLE_WORDS_FIRST,
        )
    )
    tokenizer.pre_tokenizer = _pre_tokenizer(gguf, cut)
    tokenizer.decoder = decoders.ByteLevel()
    if cut in _NORMALIZED:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_special_tokens(
        [AddedToken(pieces[token_id], normalized=False, special=True) for token_id in _special_ids(types)]
    )
    _add_user_defined(tokenizer, pieces, types)
    first, last = special.bos if special.adds_bos else None, special.eos if special.adds_eos else None
    tokenizer.post_processor = template_with_ends(pieces, first, last)
    return tokenizer


def _pre_tokenizer(gguf: GgufFile, cut: str) -> pre_tokenizers.PreTokenizer:
    if cut in _GPT2:
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if cut in _SINGLE_DIGITS:
        return pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    regexes = _DEFAULT_CUTS if cut == _DEFAULT else (_REGEXES[cut],) if cut in _REGEXES else ()
    if regexes:
        cuts = [pre_tokenizers.Split(Regex(regex), behavior="isolated") for regex in regexes]
        return pre_tokenizers.Sequence([*cuts, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    known = ", ".join(sorted({_DEFAULT, *_GPT2, *_SINGLE_DIGITS, *_REGEXES}))
    raise _refused(gguf, f"it cuts text in the unknown way '{cut}', known are {known}")


def _with_names(gguf: GgufFile, tokenizer: Tokenizer, special: SpecialTokens) -> PreTrainedTokenizerFast:
    ids = {
        "bos_token": special.bos,
        "eos_token": special.eos,
        "unk_token": special.unknown,
        "pad_token": special.padding,
    }
    template = gguf.metadata.get("tokenizer.chat_template")
    options: dict[str, Any] = {
        name: tokenizer.id_to_token(token_id) for name, token_id in ids.items() if token_id is not None
    }
    context_length = gguf.metadata.get(f"{gguf.metadata.get('general.architecture')}.context_length")
    if isinstance(context_length, int):
        options["model_max_length"] = context_length
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # not annotated
        tokenizer_object=tokenizer,
        chat_template=template if isinstance(template, str) else None,
        clean_up_tokenization_spaces=False,
        **options,
    )


def _pieces_and_types(gguf: GgufFile, special: SpecialTokens) -> tuple[list[str], list[int]]:
    """Text and type of every token; tokens that end generation count as control tokens, whatever the file says."""
    pieces = [piece or f"[EMPTY_{index}]" for index, piece in enumerate(_list(gguf, "tokens", str))]
    types = (
        _list(gguf, "token_type", int, len(pieces))
        if "tokenizer.ggml.token_type" in gguf.metadata
        else [int(_TokenType.NORMAL)] * len(pieces)
    )
    if len(set(pieces)) != len(pieces):
        raise _refused(gguf, "two of its tokens have the same text")
    ends = {token for token in special.ends if token != special.eos}
    return pieces, [int(_TokenType.CONTROL) if token in ends else type_ for token, type_ in enumerate(types)]


def _special_ids(types: list[int]) -> tuple[int, ...]:
    special = (_TokenType.UNKNOWN, _TokenType.CONTROL)
    return tuple(token_id for token_id, type_ in enumerate(types) if type_ in special)


def _add_user_defined(tokenizer: Tokenizer, pieces: list[str], types: list[int]) -> None:
    """Add tokens like "<think>", which are matched whole in text but not left out when decoding."""
    tokenizer.add_tokens(
        [
            AddedToken(piece, normalized="▁" in piece, special=False)
            for piece, type_ in zip(pieces, types, strict=True)
            if type_ == _TokenType.USER_DEFINED
        ]
    )


def _merge(text: str) -> tuple[str, str]:
    cut = text.index(" ", 1)  # the left half may itself be a space
    return text[:cut], text[cut + 1 :]


def _list(gguf: GgufFile, key: str, kind: type[_Entry], length: int | None = None) -> list[_Entry]:
    value = gguf.metadata.get(f"tokenizer.ggml.{key}")
    if not isinstance(value, list) or not value:
        raise _refused(gguf, f"'tokenizer.ggml.{key}' is missing")
    if not all(isinstance(entry, kind) for entry in value):
        raise _refused(gguf, f"'tokenizer.ggml.{key}' is not a list of {kind.__name__}")
    if length is not None and len(value) != length:
        raise _refused(gguf, f"'tokenizer.ggml.{key}' has {len(value)} entries for {length} tokens")
    return [entry for entry in value if isinstance(entry, kind)]


def _refused(gguf: GgufFile, what: str) -> CheckpointError:
    return CheckpointError(
        f"Cannot read the tokenizer of '{gguf.path}': {what}.",
        "Use the safetensors checkpoint of this model, which brings its own tokenizer.json.",
    )
