"""medusa: checkpoints of heads in the layouts of FasterDecoding/Medusa, vLLM and NVIDIA's Model-Optimizer.

    {h}.{l}.linear.weight, .bias            {h}.{layers}.weight     FasterDecoding, text-generation-inference
    medusa_head.{h}. ...                                            the same in a whole model's checkpoint (Medusa-2)
    medusa_heads.{h}. ...                                           Model-Optimizer
    {h}.medusa_layers.{l}.linear.weight     {h}.lm_head.weight      with parallel_draft_heads. or medusa_heads.
    blocks.{h}.layers.{l}.weight            lm_heads.{h}.weight     vLLM

A matrix of logits for all heads is lm_head.weight; without any, they use the target's. `token_map` lists the tokens
that they can draft, `d2t` what is to be added to the number of each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ptgc.errors import CheckpointError, ExportError
from ptgc.exporters.checkpoint.drafter_weights import check_drafted, fill
from ptgc.exporters.modules.medusa import MedusaHeads
from ptgc.exporters.strategies.base import Note
from ptgc.exporters.strategies.heads import (
    CHOOSE,
    HeadsExporter,
    check_sizes,
    checked_count,
    matrix_size,
    stated,
    without_prefix,
)

_PARALLEL = "parallel_draft_heads."
_PREFIXES = ("medusa_head.", "medusa_heads.", _PARALLEL, f"{_PARALLEL}medusa_heads.")  # the longer ones later
_OF_EAGLE = ("fc.", "midlayer.", "layers.")
_BLOCK = re.compile(r"(?:blocks\.)?(\d{1,4})\.(?:(?:medusa_)?layers\.)?(\d{1,4})(?:\.linear)?\.(weight|bias)")
_LINEAR = re.compile(r"blocks\..*|.*\.linear\..*|.*\.medusa_layers\..*")
_MATRIX = re.compile(r"lm_heads\.(\d{1,4})\.weight|(\d{1,4})\.lm_head\.weight|(\d{1,4})\.(\d{1,4})\.weight")
_SHARED, _MAPS = "lm_head.weight", ("token_map", "d2t", "t2d")


class MedusaExporter(HeadsExporter):
    """Heads that do not read drafts."""

    files = ("medusa_lm_head.safetensors", "medusa_lm_head.pt")

    def own_names(self, names: Iterable[str]) -> dict[str, str]:
        """Those of a whole model's checkpoint have a prefix."""
        given = list(names)
        if any(name.startswith(_PARALLEL) for name in given) and any(name.startswith(_OF_EAGLE) for name in given):
            raise ExportError(
                "These heads are part of an EAGLE drafter: they read its states, not the target's.", CHOOSE
            )
        maps = {name: name for name in given if name in _MAPS}
        return maps | without_prefix(given, _PREFIXES)

    def num_heads(self, names: Iterable[str], settings: Mapping[str, Any]) -> int:
        """As many as the weights have, or more where config.json says so, which then lack some."""
        found = [int(block[1]) + 1 for block in map(_block, names) if block]
        if not found:
            raise CheckpointError("The heads' checkpoint has no Medusa heads, such as 0.0.linear.weight.", CHOOSE)
        nested = settings.get("medusa")
        said = stated(settings, "medusa_num_heads", "num_medusa_heads")
        said = said or stated(nested if isinstance(nested, dict) else {}, "num_medusa_heads")
        return checked_count("heads", max(*found, said))

    def heads(
        self, target: PreTrainedModel, tensors: Mapping[str, Tensor], settings: Mapping[str, Any], note: Note
    ) -> MedusaHeads:
        """The heads, with matrices of their own or the target's."""
        num_heads = self.num_heads(tensors, settings)
        layers = [int(block[2]) + 1 for block in map(_block, tensors) if block]
        num_layers = checked_count("layers in a head", max([*layers, stated(settings, "medusa_num_layers")]))
        places, ids = _placed(tensors, num_layers), _drafted_ids(target, tensors)
        if settings.get("original_lm_head") is True and "lm_heads.0.weight" in places:  # vLLM: one for all
            places[_SHARED] = places["lm_heads.0.weight"]
            places = {name: one for name, one in places.items() if not name.startswith("lm_heads.")}
        matrices = {name: _cut(one, ids) for name, one in places.items() if name.startswith("lm_head")}
        hidden_size, drafted = matrix_size(places, "blocks.0.0.linear.weight")[1], 0
        if matrices:
            drafted = len(next(iter(matrices.values())))
            check_sizes(target, hidden_size, drafted, None if ids is None else len(ids))
        else:
            check_sizes(target, hidden_size)
        for_all = nn.Linear(hidden_size, drafted, bias=False) if _SHARED in matrices else None
        made = MedusaHeads(
            hidden_size,
            drafted,
            num_heads,
            num_layers,
            lm_head=for_all if matrices else _target_head(target, ids, note),
            drafted_ids=None if ids is None else ids.tolist(),
            has_bias=any(name.endswith(".linear.bias") for name in places),
        )
        shared = () if matrices else ("lm_head.",)
        fill(made, places | matrices, target.dtype, shared=shared, name="the heads")
        return made


def _block(name: str) -> re.Match[str] | None:
    """Head, layer and part of a residual block's tensor."""
    return _BLOCK.fullmatch(name) if _LINEAR.fullmatch(name) else None


def _placed(tensors: Mapping[str, Tensor], num_layers: int) -> dict[str, Tensor]:
    """Tensors by their names in the module; those that have no place keep theirs."""
    found = {}
    for name, tensor in tensors.items():
        block, matrix = _block(name), _MATRIX.fullmatch(name)
        if block:
            found[f"blocks.{int(block[1])}.{int(block[2])}.linear.{block[3]}"] = tensor
        elif matrix and matrix[4] in (None, str(num_layers)):
            found[f"lm_heads.{int(matrix[1] or matrix[2] or matrix[3])}.weight"] = tensor
        elif name not in _MAPS:
            found[name] = tensor
    return found


def _drafted_ids(target: PreTrainedModel, tensors: Mapping[str, Tensor]) -> Tensor | None:
    """The target's ids of the tokens that are drafted; None for all.

    Raises:
        ExportError: They are not different ids of its vocabulary.
    """
    name = next((name for name in ("token_map", "d2t") if name in tensors), "")
    if not name:
        return None
    vocab_size = target.config.get_text_config().vocab_size
    ids = tensors[name].long().flatten()
    if name == "d2t":
        ids = ids + torch.arange(len(ids))
    check_drafted(ids, name, vocab_size)
    return ids


def _cut(matrix: Tensor, ids: Tensor | None) -> Tensor:
    """Only the rows of tokens that are drafted; a matrix may have those of all tokens."""
    return matrix if ids is None or len(matrix) <= max(len(ids), int(ids.max())) else matrix[ids]


def _target_head(target: PreTrainedModel, ids: Tensor | None, note: Note) -> nn.Module:
    """The target's own matrix of logits, or the rows of the tokens that are drafted."""
    head: nn.Module = target.get_output_embeddings()  # type: ignore[no-untyped-call]  # not annotated
    assert isinstance(head, nn.Linear)
    note("the heads have no matrix of logits: they use the target's")
    if ids is None:
        return head
    rows = nn.Linear(head.in_features, len(ids), bias=head.bias is not None)
    rows.weight.data = head.weight.data[ids]
    if head.bias is not None:
        rows.bias.data = head.bias.data[ids]
    return rows


EXPORTER = MedusaExporter()
