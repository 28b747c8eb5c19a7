"""mtp: the drafter is one or more layers of the target's own checkpoint that transformers does not load."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from ptgc.exporters.checkpoint.huggingface_directory import model_from_state_dict
from ptgc.exporters.checkpoint.mtp_weights import LAYER, MtpWeights, find_mtp_weights
from ptgc.exporters.modules.mtp import MtpDrafter, MtpLayers
from ptgc.exporters.strategies.base import Note, Sources
from ptgc.exporters.strategies.causal import TappedExporter
from ptgc.exporters.strategies.eagle import head_of, load_drafter
from ptgc.exporters.tracing.layer_facts import decoder_layers
from ptgc.spec.strategies.base import CheckpointFacts

_BY_LAYER = {"layer_types": "mtp_layer_types", "mlp_layer_types": "mtp_mlp_layer_types", "no_rope_layers": ""}
"""Fields of configurations with an entry for each layer, and those for layers for multi-token prediction."""


class MtpExporter(TappedExporter):
    """A target, and its layers for multi-token prediction."""

    def facts(self, sources: Sources, tokenizer: Any | None) -> CheckpointFacts:
        """How many of these layers there are."""
        return replace(super().facts(sources, tokenizer), num_layers=len(find_mtp_weights(sources.model).layers))

    def modules(self, sources: Sources, note: Note) -> dict[str, nn.Module]:
        """The target, and its layers for multi-token prediction."""
        weights = find_mtp_weights(sources.model)
        model = replace(sources.model, read_apart=weights.prefixes)
        found = super().modules(replace(sources, model=model), note)
        target = found["target"]
        assert isinstance(target, PreTrainedModel)
        return found | {"drafter": mtp_drafter(target, weights)}


def mtp_drafter(target: PreTrainedModel, weights: MtpWeights) -> MtpDrafter | MtpLayers:
    """The drafter that a target's weights for multi-token prediction are.

    Raises:
        CheckpointError: Tensors are of another shape; they are named.
    """
    read = weights.read()
    layers = [_drafter(target, weights, *one) for one in zip(read, weights.like, range(len(read)), strict=True)]
    if len(layers) == 1:
        return layers[0]
    for name in ("fc", "embedding_norm", "states_norm"):
        if read[0][f"{name}.weight"] is read[1][f"{name}.weight"]:  # stored once for all layers
            for one in layers[1:]:
                setattr(one, name, getattr(layers[0], name))
    return MtpLayers(layers)


def _drafter(
    target: PreTrainedModel, weights: MtpWeights, tensors: dict[str, Tensor], like: int, number: int
) -> MtpDrafter:
    """One of the layers."""
    model = _one_layer(target, tensors, like, number)
    drafter = MtpDrafter(model, head_of(target), states_first=weights.layout.states_first)
    if not weights.layout.has_norm:
        model.norm = nn.Identity()
    parts = {name: one for name, one in tensors.items() if not name.startswith((LAYER, "norm."))}
    load_drafter(drafter, parts, target.dtype, there=("model.", "lm_head."))
    return drafter


def _one_layer(target: PreTrainedModel, tensors: dict[str, Tensor], like: int, number: int) -> PreTrainedModel:
    """The body of a model like the target, with one layer that has these tensors, and the target's embedding."""
    layers = decoder_layers(target)
    prefix = next(name for name, module in target.named_modules() if module is layers)
    norm = f"{prefix.rpartition('.')[0]}.norm.weight"
    state = {name: one for name, one in target.state_dict().items() if not name.startswith(f"{prefix}.")}
    state |= {f"{prefix}.0.{name.removeprefix(LAYER)}": one for name, one in tensors.items() if name.startswith(LAYER)}
    state[norm] = tensors.get("norm.weight", state[norm])
    model = model_from_state_dict(_config(target, like, number), state, target.dtype, type(target))
    body = model.base_model
    assert isinstance(body, PreTrainedModel)
    body.set_input_embeddings(target.get_input_embeddings())
    return body


def _config(target: PreTrainedModel, like: int, number: int) -> Any:
    """The target's configuration for one layer, of the kind that its own entry says, or of one of the target's."""
    config: Any = copy.deepcopy(target.config)
    total = config.num_hidden_layers
    for name, own in _BY_LAYER.items():
        if getattr(config, name, None):
            kinds = getattr(config, own, None) or [getattr(config, name)[like]]
            setattr(config, name, [kinds[min(number, len(kinds) - 1)]])
    if hasattr(config, "first_k_dense_replace"):
        config.first_k_dense_replace = int(like < config.first_k_dense_replace)
    if hasattr(config, "mlp_only_layers"):
        sparse = like not in config.mlp_only_layers and (like + 1) % config.decoder_sparse_step == 0
        config.mlp_only_layers, config.decoder_sparse_step = [] if sparse else [0], 1
    if hasattr(config, "moe_layer_start_index"):
        sparse = config.moe_layer_start_index <= like <= config.moe_layer_end_index
        sparse = sparse and (like + 1) % config.moe_layer_interval == 0
        config.moe_layer_start_index, config.moe_layer_end_index = int(not sparse), total
        config.moe_layer_interval = 1
    config.num_hidden_layers = 1
    return config


EXPORTER = MtpExporter()
