"""The model of the package rxnfp: a tiny one in the same three files, and the tokens of reactions."""

from __future__ import annotations

import io
import json
import re
import sys
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForPreTraining

from ptgc.errors import CheckpointError
from tests.tools.fake_index import TOOLS

sys.path.insert(0, str(TOOLS))
from rxnfp_bert import load_rxnfp_bert, tokenizer_from_vocabulary  # a script's neighbour, not a package

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = [*SPECIAL, *"CNOcnos()=#.123-+", "Br", "Cl", "[nH]", ">>", "[N+]", "[O-]", "%10"]
# As in the package: every match is a token, and the rest is dropped.
PATTERN = re.compile(
    r"(\%\([0-9]{3}\)|\[[^\]]+]|Br?|Cl?|N|O|S|P|F|I|b|c|n|o|s|p|\||\(|\)|\.|=|#|-|\+|\\|\/|:|~|@|\?|>>?|\*|\$"
    r"|\%[0-9]{2}|[0-9])"
)
REACTIONS = [
    "CCO.BrCC>>CCOCC",
    "Nc1ccc[nH]1.O=C(O)[N+](=O)[O-]>>ClC",
    "C%10 (N) z C[MASK]C",
    "[Zn+2].CC>CN>Br",
    "",
]


def _files(settings: dict[str, Any] | None = None) -> tuple[bytes, BertForPreTraining]:
    sizes: dict[str, Any] = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "max_position_embeddings": 32,
    }
    torch.manual_seed(0)
    model = BertForPreTraining(BertConfig(**sizes)).eval()
    weights = {name: tensor for name, tensor in model.state_dict().items() if name != "cls.predictions.decoder.bias"}
    file = io.BytesIO()
    torch.save(weights, file, _use_new_zipfile_serialization=False)
    config = json.dumps({"pruned_heads": {}, "output_past": True, **sizes, **(settings or {})}, indent=2)
    return file.getvalue() + config.encode() + "\n".join(VOCABULARY).encode() + b"\n", model


def test_three_files_in_a_row_become_a_masked_language_model() -> None:
    content, original = _files()
    model, tokenizer = load_rxnfp_bert(content)
    ids = torch.tensor([tokenizer("CC(=O)O>>C[MASK]")["input_ids"]])
    assert ids[0, -2] == tokenizer.mask_token_id == 4 and model.config.pad_token_id == 0
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, original(ids).prediction_logits)


@pytest.mark.parametrize("reaction", REACTIONS)
def test_tokens_are_those_of_the_package(reaction: str) -> None:
    tokenizer = tokenizer_from_vocabulary(VOCABULARY)
    expected = [token if token in VOCABULARY else "[UNK]" for token in PATTERN.findall(reaction)]
    assert tokenizer.convert_ids_to_tokens(tokenizer(reaction)["input_ids"]) == ["[CLS]", *expected, "[SEP]"]
    if "[UNK]" not in expected:
        assert tokenizer.decode(tokenizer(reaction)["input_ids"][1:-1]) == "".join(expected)


def test_other_content_is_refused() -> None:
    content, _ = _files()
    with pytest.raises(CheckpointError, match="do not follow each other"):
        load_rxnfp_bert(content[:1000])
    with pytest.raises(CheckpointError, match="tensors do not fit"):
        load_rxnfp_bert(_files({"hidden_size": 32})[0])
    with pytest.raises(CheckpointError, match=re.escape("lacks [MASK]")):
        tokenizer_from_vocabulary(VOCABULARY[:4])
