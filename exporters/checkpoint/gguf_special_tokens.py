"""The special tokens of a GGUF file, with llama.cpp's defaults for missing fields.

llama.cpp's reader is the specification of the format: src/llama-vocab.cpp, `llama_vocab::impl::load`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ptgc.errors import CheckpointError
from ptgc.exporters.checkpoint.gguf_file import GgufFile

SENTENCEPIECE, BYTE_LEVEL = "llama", "gpt2"  # kinds of vocabulary, under the format's names
_DEFAULTS = {SENTENCEPIECE: {"bos": 1, "eos": 2, "unknown": 0}, BYTE_LEVEL: {"bos": 11, "eos": 11}}
_STARTED_BY_BOS = {"llama3", "llama-v3", "llama-bpe", "falcon3", "pixtral", "midm-2.0", "lfm2", "tekken"}  # splits
_ENDS = (
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<｜end▁of▁sentence｜>",  # DeepSeek's
    "[e~[",
)
# End tokens of fill-in-the-middle: the file's own field, else the first of these texts that exists.
_MIDDLE_ENDS = {
    "fim_pad": ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
    "fim_rep": ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
    "fim_sep": ("<|file_sep|>",),
}
# A text that does not end generation if all of the others exist too.
_EXCEPTIONS = (
    ("<|end|>", {"<|return|>", "<|call|>"}),
    ("<|end|>", {"<|flush|>", "<|call|>"}),
    ("<|end|>", {"<|flush|>", "<|calls|>"}),
    ("<|end|>", {"<|return|>", "<|calls|>"}),
    ("</s>", {"<|tool_response>"}),
)


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of special tokens; None if the vocabulary has none."""

    bos: int | None
    """Begins a text."""
    eos: int | None
    """Ends a text."""
    unknown: int | None
    """Stands for characters that cannot be spelled."""
    padding: int | None
    """Fills rows."""
    adds_bos: bool
    """Whether `bos` is put before every text."""
    adds_eos: bool
    """Whether `eos` is put after every text."""
    ends: tuple[int, ...]
    """Every token after which llama.cpp stops generating, `eos` first."""


def read_special_tokens(gguf: GgufFile) -> SpecialTokens:
    """Read the ids of a file.

    Raises:
        CheckpointError: An id is outside the vocabulary.
    """
    tokens = gguf.metadata.get("tokenizer.ggml.tokens")
    pieces = [str(token) for token in tokens] if isinstance(tokens, list) else []
    kind, cut = (gguf.metadata.get(f"tokenizer.ggml.{name}") for name in ("model", "pre"))
    defaults = {name: token for name, token in _DEFAULTS.get(str(kind), {}).items() if token < len(pieces)}

    def named(name: str) -> int | None:
        return _read_id(gguf, name, len(pieces), defaults.get(name))

    bos, eos = named("bos"), named("eos")
    starts = kind == SENTENCEPIECE or cut in _STARTED_BY_BOS
    return SpecialTokens(
        bos=bos,
        eos=eos,
        unknown=named("unknown"),
        padding=named("padding"),
        adds_bos=bos is not None and bool(gguf.metadata.get("tokenizer.ggml.add_bos_token", starts)),
        adds_eos=eos is not None and bool(gguf.metadata.get("tokenizer.ggml.add_eos_token", False)),
        ends=_ends(pieces, eos, {name: named(name) for name in ("eot", "eom", *_MIDDLE_ENDS)}),
    )


def _ends(pieces: list[str], eos: int | None, named: dict[str, int | None]) -> tuple[int, ...]:
    """Tokens that end a text, by the file's fields and by their spelling."""
    ids = {piece: token for token, piece in enumerate(pieces)}
    found = {ids[text] for text in _ENDS if text in ids}
    for text, others in _EXCEPTIONS:
        if text in ids and all(other in ids for other in others):
            found.discard(ids[text])
    for name, texts in _MIDDLE_ENDS.items():
        if named[name] is None:
            found.update([ids[text] for text in texts if text in ids][:1])
    found.update(token for token in named.values() if token is not None)
    return (*([] if eos is None else [eos]), *sorted(found - {eos}))


def _read_id(gguf: GgufFile, name: str, size: int, default: int | None) -> int | None:
    value = gguf.metadata.get(f"tokenizer.ggml.{name}_token_id", default)
    if value is None or (size and isinstance(value, int) and 0 <= value < size):
        return value
    if not size and isinstance(value, int):
        return value  # a model without a vocabulary
    raise CheckpointError(
        f"Cannot read the tokenizer of '{gguf.path}': its {name} token is {value!r}, allowed are 0 to {size - 1}.",
        "Use the safetensors checkpoint of this model, which brings its own tokenizer.json.",
    )
