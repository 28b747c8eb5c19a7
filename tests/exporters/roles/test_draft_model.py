"""Pairs of target and drafter: exports, notes and refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, MarianConfig, MarianMTModel

from ptgc.errors import ExportError
from ptgc.exporters import export
from ptgc.exporters.roles.draft_model import check_pair
from ptgc.spec.attention import AttentionKind
from ptgc.spec.bundle import open_bundle
from ptgc.spec.plan import DecodePlan
from ptgc.spec.strategies.draft_model import DrafterVocabulary, draft_model
from ptgc.spec.strategies.ngram import ngram
from tests.other_models import tiny_llama, words


def _notes(drafter: Any, tokenizers: tuple[Any, Any], *, reencodes: bool = False) -> list[str]:
    return check_pair(tiny_llama(layers=2), drafter, tokenizers, reencodes=reencodes)


def test_a_pair_has_two_roles_with_caches_and_what_they_share_is_stored_once(tmp_path: Path) -> None:
    roles = {"target": tiny_llama(layers=2), "drafter": tiny_llama(layers=2)}
    export(roles, draft_model(4), tmp_path / "b", tokenizer=words(), drafter_tokenizer=words())
    bundle = open_bundle(tmp_path / "b")
    bundle.verify()
    manifest = bundle.manifest
    assert manifest.plan == draft_model(4) and manifest.plan.tree.num_nodes == 5
    assert manifest.drafter_tokenizer is None and "notes" not in manifest.provenance
    assert {name: len(role.states) for name, role in manifest.roles.items()} == {"target": 2, "drafter": 2}
    assert [role.attention for role in manifest.roles.values()] == [AttentionKind.CAUSAL] * 2
    assert "drafter-model" in manifest.features
    assert not (tmp_path / "b" / "graphs" / "drafter.data").exists()


def test_drafting_by_text_keeps_tokenizer_context_and_notes_of_the_drafter(tmp_path: Path) -> None:
    roles = {"target": tiny_llama(layers=2), "drafter": tiny_llama(vocab_size=128, context=64)}
    plan, noted = draft_model(vocabulary=DrafterVocabulary.REENCODED), list[str]()
    export(roles, plan, tmp_path / "b", tokenizer=words(), drafter_tokenizer=words(128, "v"), note=noted.append)
    manifest = open_bundle(tmp_path / "b").manifest
    assert manifest.plan.drafter.reencodes
    assert manifest.drafter_tokenizer == "drafter_tokenizer"
    kept = AutoTokenizer.from_pretrained(tmp_path / "b" / "drafter_tokenizer")
    assert kept("v3 v9")["input_ids"] == [3, 9]
    assert manifest.roles["drafter"].context_length == 64 and manifest.roles["target"].context_length is None
    assert manifest.roles["drafter"].outputs[0].shape[-1] == 128 and manifest.model.vocab_size == 96
    assert manifest.provenance["notes"] == noted and len(noted) == 1


def test_a_pair_of_one_vocabulary_needs_no_note() -> None:
    assert _notes(tiny_llama(), (words(), words())) == []


def test_logits_may_be_padded_to_another_size() -> None:
    assert _notes(tiny_llama(vocab_size=128), (words(), words())) == []


def test_a_shorter_context_is_noted() -> None:
    (note,) = _notes(tiny_llama(context=64), (words(), words()))
    assert "64 positions" in note and "128" in note


def test_entries_that_differ_in_spelling_only_are_noted_with_examples() -> None:
    (note,) = _notes(tiny_llama(), (words(), words(eos_token="<x>", pad_token="[PAD]")))
    assert note.startswith("2 of 96 entries") and "0: 'w0' and '<x>'" in note


@pytest.mark.parametrize("other", [words(prefix="v"), words(95)], ids=["other words", "fewer entries"])
def test_another_vocabulary_is_refused_with_the_way_out(other: Any) -> None:
    with pytest.raises(ExportError, match="drafter's vocabulary is another one") as caught:
        _notes(tiny_llama(), (words(), other))
    assert "--drafter-vocabulary re-encoded" in caught.value.action


def test_without_tokenizers_the_sizes_decide() -> None:
    assert "taken to be the same" in _notes(tiny_llama(), (None, None))[0]
    with pytest.raises(ExportError, match="has 128 entries, the target's 96"):
        _notes(tiny_llama(vocab_size=128), (None, None))


def test_drafting_by_text_needs_both_tokenizers() -> None:
    with pytest.raises(ExportError, match="the drafter's checkpoint has none"):
        _notes(tiny_llama(), (words(), None), reencodes=True)


def test_an_encoder_decoder_cannot_draft() -> None:
    config = MarianConfig(
        vocab_size=96, d_model=16, encoder_layers=1, decoder_layers=1, pad_token_id=0, decoder_start_token_id=0
    )
    with pytest.raises(ExportError, match="a drafter is a causal language model"):
        _notes(MarianMTModel(config).eval(), (words(), words()))


@pytest.mark.parametrize(
    ("roles", "plan"),
    [(("target",), draft_model()), (("target", "drafter"), ngram()), (("drafter",), draft_model()), ((), ngram())],
)
def test_roles_that_do_not_fit_the_plan_are_refused(tmp_path: Path, roles: tuple[str, ...], plan: DecodePlan) -> None:
    with pytest.raises(ExportError, match=r"has the roles .*'target'"):
        export({role: tiny_llama() for role in roles}, plan, tmp_path / "b")
