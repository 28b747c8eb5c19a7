"""layer-skip: the drafter is the first layers of the target, with the same weights."""

from __future__ import annotations

import copy

from torch import nn
from transformers import PreTrainedModel

from ptgc.errors import ExportError
from ptgc.exporters.strategies.base import Note, Sources
from ptgc.exporters.strategies.causal import CausalExporter
from ptgc.exporters.tracing.layer_facts import decoder_layers


def first_layers(model: PreTrainedModel, count: int) -> PreTrainedModel:
    """A model made of the first layers of another, sharing its weights.

    Raises:
        ExportError: The model has no list of layers, or not more than `count` of them.
    """
    # Copies the modules and their configuration, not the weights.
    kept = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    short = copy.deepcopy(model, kept)
    config = short.config.get_text_config(decoder=True)
    layers, total = decoder_layers(short), config.num_hidden_layers
    if not 0 < count < total:
        raise ExportError(
            f"--num-layers is {count}; {type(model).__name__} has {total} layers, of which some must be left out.",
            f"Choose a number from 1 to {total - 1}.",
        )
    del layers[count:]
    config.num_hidden_layers = count
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:count]
    return short


class LayerSkipExporter(CausalExporter):
    """A target, and its first layers."""

    def modules(self, sources: Sources, note: Note) -> dict[str, nn.Module]:
        """The target, and its first layers."""
        found = super().modules(sources, note)
        target = found["target"]
        assert isinstance(target, PreTrainedModel)
        return found | {"drafter": first_layers(target, sources.options.num_layers)}


EXPORTER = LayerSkipExporter()
