"""Reading the masked language model of chemical reactions in the package rxnfp into transformers."""

from __future__ import annotations

import io
import json

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import BertConfig, BertForMaskedLM, PreTrainedModel, PreTrainedTokenizerFast

from ptgc.errors import CheckpointError
from ptgc.exporters.checkpoint.huggingface_directory import model_from_state_dict

# The tokens of a reaction SMILES; anything else is left out (Schwaller et al., Nat. Mach. Intell. 3, 2021).
_TOKEN = (
    r"(\%\([0-9]{3}\)|\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\||\(|\)|\.|=|#|-|\+|\\|\/|:|~|@|\?|>>?|\*|\$"
    r"|\%[0-9]{2}|[0-9])"
)
_SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}

_UNUSED = ("bert.pooler.", "cls.seq_relationship.")  # for next sentence prediction


def load_rxnfp_bert(content: bytes) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Convert the concatenation of `pytorch_model.bin`, `config.json` and `vocab.txt`.

    Raises:
        CheckpointError: The content is not these three files, or the tensors do not fit the configuration.
    """
    start = content.rfind(b"{\n")
    try:
        text = content[max(start, 0) :].decode()
        settings, end = json.JSONDecoder().raw_decode(text)
        weights = torch.load(io.BytesIO(content[:start]), map_location="cpu", weights_only=True)
    except (ValueError, RuntimeError, EOFError) as error:
        raise CheckpointError(
            f"The weights, configuration and vocabulary do not follow each other: {error}."
        ) from error
    vocabulary = text[end:].split()
    tokenizer = tokenizer_from_vocabulary(vocabulary)
    config = BertConfig(
        **{name: settings[name] for name in settings.keys() & BertConfig().to_dict().keys()},
        pad_token_id=vocabulary.index(_SPECIAL["pad"]),
    )
    tokenizer.model_max_length = config.max_position_embeddings
    state_dict = {name: tensor for name, tensor in weights.items() if not name.startswith(_UNUSED)}
    state_dict["cls.predictions.decoder.bias"] = state_dict[
        "cls.predictions.bias"
    ]  # one tensor, as transformers ties it
    return model_from_state_dict(config, state_dict, torch.float32, BertForMaskedLM), tokenizer


def tokenizer_from_vocabulary(tokens: list[str]) -> PreTrainedTokenizerFast:
    """The tokenizer of reaction SMILES: one id for each token of the pattern, `[CLS]` before and `[SEP]` after."""
    ids = {token: index for index, token in enumerate(tokens)}
    missing = [token for token in _SPECIAL.values() if token not in ids]
    if missing:
        raise CheckpointError(f"The vocabulary lacks {', '.join(missing)}.")
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=_SPECIAL["unk"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_TOKEN), behavior="removed", invert=True)
    tokenizer.decoder = decoders.Fuse()
    ends = [(_SPECIAL[name], ids[_SPECIAL[name]]) for name in ("cls", "sep")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{_SPECIAL['cls']} $A {_SPECIAL['sep']}", special_tokens=ends
    )
    named = {f"{name}_token": token for name, token in _SPECIAL.items()}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **named)
