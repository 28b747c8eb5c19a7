"""layer-skip: the drafters are some layers of the target, with the same weights."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

from torch import nn
from transformers import PreTrainedModel

from ptgc.errors import ExportError
from ptgc.exporters.strategies.base import Note, Sources
from ptgc.exporters.strategies.causal import TappedExporter
from ptgc.exporters.strategies.layer_search import search_layers
from ptgc.exporters.tracing.layer_facts import decoder_layers
from ptgc.spec.drafter import alternative_roles
from ptgc.spec.layers import LayerSets, spell_layers


def first_layers(model: PreTrainedModel, count: int) -> PreTrainedModel:
    """A model made of the first layers of another; see `some_layers`."""
    return some_layers(model, range(count))


def some_layers(model: PreTrainedModel, kept: Sequence[int]) -> PreTrainedModel:
    """A model made of some layers of another, in order, sharing its weights.

    Raises:
        ExportError: The model has no list of layers, or lacks one of these, or they are all that it has.
    """
    check_layers(model, [kept])
    # Copies the modules and their configuration, not the weights.
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    part = copy.deepcopy(model, shared)
    config, layers = part.config.get_text_config(decoder=True), decoder_layers(part)
    chosen = [layers[index] for index in kept]
    del layers[:]
    layers.extend(chosen)
    config.num_hidden_layers = len(chosen)
    if types := getattr(config, "layer_types", None):
        config.layer_types = [types[index] for index in kept]
    return part


def check_layers(model: PreTrainedModel, sets: Sequence[Sequence[int]], searched: Sequence[int | None] = ()) -> None:
    """Refuse layers that the model lacks, and all that it has.

    Raises:
        ExportError: It names every such subset.
    """
    total, name = len(decoder_layers(model)), type(model).__name__
    problems = [f"a drafter of {count} layers is none of its parts" for count in searched if count and count >= total]
    for one in sets:
        if not one:
            problems.append("a drafter has at least one layer")
        elif max(one) >= total:
            problems.append(f"layers {spell_layers(one)} are more than that")
        elif len(one) == total:
            problems.append(f"layers {spell_layers(one)} are all of them, and some must be left out")
    if problems:
        raise ExportError(
            f"{name} has {total} layers, from 0 to {total - 1}: {'; '.join(problems)}.",
            f"Choose from 1 to {total - 1} of them: --num-layers {total // 2}, or --layers 0-{total // 2 - 1}.",
        )


class LayerSkipExporter(TappedExporter):
    """A target, and some of its layers."""

    def settle(self, sources: Sources, progress: Note, note: Note) -> Sources:
        """Search for layers if the options say so."""
        sets = sources.options.sets
        if not sets.searched:
            return sources
        target = sources.model.load_model(note=note)
        check_layers(target, sets.given, sets.searched)
        found = search_layers(target, sources.model.load_tokenizer(), sets.searched, some_layers, progress)
        layers = LayerSets(tuple(dict.fromkeys((*sets.given, *found))))
        note(f"--layers {sets} are {layers}.")
        return replace(sources, options=replace(sources.options, layers=layers, num_layers=None))

    def modules(self, sources: Sources, note: Note) -> dict[str, nn.Module]:
        """The target, and its parts."""
        found = super().modules(sources, note)
        target, sets = found["target"], sources.options.sets.given
        assert isinstance(target, PreTrainedModel)
        check_layers(target, sets)
        roles = alternative_roles(len(sets))
        return found | {role: some_layers(target, one) for role, one in zip(roles, sets, strict=True)}


EXPORTER = LayerSkipExporter()
