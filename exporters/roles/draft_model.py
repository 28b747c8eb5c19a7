"""The drafter role: a smaller causal language model, and whether it can draft for a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from transformers import PreTrainedModel

from ptgc.errors import ExportError
from ptgc.exporters.modules.tap import BlockReader
from ptgc.exporters.roles.base import RoleSource, TracedRole
from ptgc.exporters.roles.block_drafter import export_block_drafter
from ptgc.exporters.roles.layers_drafter import export_layers_drafter
from ptgc.exporters.roles.target import trace_target
from ptgc.spec.drafter import LayersDrafter, MaskDrafter
from ptgc.spec.kv_cache import SharedLayer
from ptgc.spec.layers import spell_layers
from ptgc.spec.strategies.layer_skip import LayerSkipDrafter

_EXAMPLES = 3  # number of differing entries in a message
_SPELLING_SHARE = 0.1  # share of entries that may differ in spelling; if more do, the ids mean something else

_REENCODE = "Or draft by text instead of ids: --strategy draft-model --drafter-vocabulary re-encoded."


def export_drafter(source: RoleSource) -> TracedRole | None:
    """Trace a causal LM in the same way as a target: it also keeps a cache and takes rows of tokens."""
    if not isinstance(source.module, PreTrainedModel):
        return None
    if isinstance(source.module, BlockReader):
        return export_block_drafter(source.module)
    if isinstance(source.plan.drafter, LayersDrafter):
        return export_layers_drafter(source.module, source.plan.drafter)
    if isinstance(source.plan.drafter, MaskDrafter):
        return trace_target(source.module)
    tree = source.plan.tree
    # A tree is drafted depth by depth: each round sees the nodes of the previous rounds.
    traced = trace_target(source.module, source.attention, 0 if tree.is_chain else tree.num_nodes - 1)
    drafter = source.plan.drafter
    if not isinstance(drafter, LayerSkipDrafter):
        return traced
    return _sharing(traced, drafter.layers[drafter.roles.index(source.name)])


def _sharing(traced: TracedRole, layers: Sequence[int]) -> TracedRole:
    """A role whose layers have the caches of these layers of the target.

    Raises:
        ExportError: It has another number of layers.
    """
    if len(traced.states) != len(layers):
        raise ExportError(
            f"The drafter has {len(traced.states)} layers with a cache; the plan's layers are {spell_layers(layers)}.",
            "Give as many layers of the target as the plan names.",
        )
    shared = (
        replace(state, shared_with=SharedLayer("target", layer))
        for layer, state in zip(layers, traced.states, strict=True)
    )
    return replace(traced, states=tuple(shared))


def check_pair(
    target: PreTrainedModel,
    drafter: PreTrainedModel,
    tokenizers: tuple[Any | None, Any | None],
    *,
    reencodes: bool,
) -> list[str]:
    """Check that a drafter can draft for a target, and return notes for the user.

    Args:
        target: The model whose text is kept.
        drafter: The model that drafts.
        tokenizers: The tokenizers of both; None if a checkpoint has none.
        reencodes: Whether drafts are re-encoded; otherwise both models have the same token ids.

    Raises:
        ExportError: The drafter cannot draft for this target.
    """
    if drafter.config.is_encoder_decoder:
        raise ExportError(
            f"{type(drafter).__name__} is an encoder-decoder; a drafter is a causal language model.",
            "Give a checkpoint such as a LlamaForCausalLM.",
        )
    notes = []
    if not reencodes:
        notes += _compare_vocabularies(tokenizers, (_vocab_size(target), _vocab_size(drafter)))
    elif None in tokenizers:
        which = "target" if tokenizers[0] is None else "drafter"
        raise ExportError(
            f"Drafting by text needs both tokenizers, and the {which}'s checkpoint has none.",
            "Add its tokenizer.json, or draft by ids: --drafter-vocabulary shared.",
        )
    contexts = [int(model.config.get_text_config().max_position_embeddings) for model in (target, drafter)]
    if contexts[1] < contexts[0]:
        notes.append(
            f"The drafter was made for {contexts[1]} positions, the target for {contexts[0]}: beyond the "
            f"drafter's, text is decoded without drafts."
        )
    return notes


def _vocab_size(model: PreTrainedModel) -> int:
    return int(model.config.get_text_config().vocab_size)


def _compare_vocabularies(tokenizers: tuple[Any | None, Any | None], sizes: tuple[int, int]) -> list[str]:
    """Compare entries by id. Logits may be padded to different sizes, so the tokenizers decide."""
    target, drafter = tokenizers
    if target is None or drafter is None:
        if sizes[0] != sizes[1]:
            raise ExportError(
                f"The drafter's vocabulary has {sizes[1]} entries, the target's {sizes[0]}: their ids differ.",
                "Choose a drafter with the target's vocabulary.",
            )
        return ["Without both tokenizers, the ids of target and drafter are taken to be the same."]
    spelled = [list(map(str, one.convert_ids_to_tokens(list(range(len(one)))))) for one in (target, drafter)]
    different = _differences(*spelled)
    if len(spelled[0]) != len(spelled[1]) or len(different) > _SPELLING_SHARE * len(spelled[0]):
        raise ExportError(
            f"The drafter's vocabulary is another one: {len(spelled[1])} entries against the target's "
            f"{len(spelled[0])}, {len(different)} of them different{_listed(different, *spelled)}.",
            f"Choose a drafter with the target's vocabulary. {_REENCODE}",
        )
    if not different:
        return []
    return [
        f"{len(different)} of {len(spelled[0])} entries are spelled differently by target and drafter"
        f"{_listed(different, *spelled)}; their ids are taken to mean the same."
    ]


def _differences(target: Sequence[str], drafter: Sequence[str]) -> list[int]:
    return [index for index, (one, other) in enumerate(zip(target, drafter, strict=False)) if one != other]


def _listed(different: Sequence[int], target: Sequence[str], drafter: Sequence[str]) -> str:
    if not different:
        return ""
    examples = ", ".join(f"{i}: {target[i]!r} and {drafter[i]!r}" for i in different[:_EXAMPLES])
    return f" ({examples}{', ...' if len(different) > _EXAMPLES else ''})"
