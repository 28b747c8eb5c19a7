"""eagle: checkpoints of EAGLE drafters (HASS's too), in the layouts of SafeAILab/EAGLE and vllm-project/speculators."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, PreTrainedModel

from ptgc.errors import CheckpointError, ExportError
from ptgc.exporters.checkpoint.checkpoint import Checkpoint
from ptgc.exporters.checkpoint.drafter_weights import fill, open_drafter, read_tensors
from ptgc.exporters.modules.eagle import EagleDrafter
from ptgc.exporters.strategies.base import Note, Sources
from ptgc.exporters.strategies.causal import TappedExporter

CHOOSE = "Choose a drafter that was trained for this model."
EMBEDDING = "model.embed_tokens.weight"
_PLACES = {
    "fusion_fc.": "fc.",
    "layers.": "model.layers.",
    "transformer.": "model.layers.0.",
    "embed_tokens.": "model.embed_tokens.",
    "embed_layernorm.": "embedding_norm.",
    "embedding_layernorm.": "embedding_norm.",
    "hidden_layernorm.": "model.layers.0.input_layernorm.",
    "lm_head_layernorm.": "head_norm.",
    "pre_lm_head_layernorm.": "head_norm.",
}
"""Where tensors with these prefixes belong: SafeAILab's names, and those of speculators."""
_NORMS = {
    "embedding_norm": "embedding_norm.weight",
    "input_norm": "model.layers.0.input_layernorm.weight",
    "head_norm": "head_norm.weight",
}
_UNSAID = LlamaConfig().vocab_size
_CONSTANTS = (".inv_freq",)  # in old checkpoints, read by nobody


class StateReaderExporter(TappedExporter):
    """A target, and a checkpoint of a drafter that was trained on its hidden states."""

    def open_others(self, options: Any, *, trust_remote_code: bool) -> dict[str, Checkpoint]:  # noqa: ARG002
        """The drafter."""
        return {"drafter": open_drafter(options.drafter)}

    def modules(self, sources: Sources, note: Note) -> dict[str, nn.Module]:
        """The target, and its drafter."""
        found = super().modules(sources, note)
        target, drafter = found["target"], sources.others["drafter"]
        assert isinstance(target, PreTrainedModel) and isinstance(drafter.config, LlamaConfig)
        return found | {"drafter": self.drafter(target, drafter.config, read_tensors(drafter))}

    @abstractmethod
    def drafter(self, target: PreTrainedModel, config: LlamaConfig, tensors: Mapping[str, Tensor]) -> nn.Module:
        """The drafter that weights of a public layout are.

        Args:
            target: The model that it was trained for.
            config: What config.json says of its layers.
            tensors: By the layout's names.

        Raises:
            CheckpointError: Tensors are missing or of another shape; all of them are named.
            ExportError: They are a drafter of another target.
        """


class EagleExporter(StateReaderExporter):
    """A target, and an EAGLE drafter that was trained for it."""

    def drafter(self, target: PreTrainedModel, config: LlamaConfig, tensors: Mapping[str, Tensor]) -> EagleDrafter:
        """See `eagle_drafter`."""
        return eagle_drafter(target, config, tensors)


def eagle_drafter(target: PreTrainedModel, config: LlamaConfig, tensors: Mapping[str, Tensor]) -> EagleDrafter:
    """The drafter that weights of a public layout are; its head is the target's, and its embedding if they are equal.

    Args:
        target: The model that it was trained for.
        config: Of its layers.
        tensors: `fc` and `layers.*`, or `fusion_fc` and `transformer.*`; optionally `embed_tokens` and norms.

    Raises:
        CheckpointError: Tensors are missing or of another shape; all of them are named.
        ExportError: They are a drafter of another target.
    """
    given = {_place(name): tensor for name, tensor in tensors.items() if not name.endswith(_CONSTANTS)}
    if "fc.weight" not in given:
        raise CheckpointError(
            "The drafter's weights have neither fc.weight nor fusion_fc.weight: it is no EAGLE drafter.", CHOOSE
        )
    embedding, head = target.get_input_embeddings(), head_of(target)
    assert isinstance(embedding, nn.Embedding)
    problems = _misfits(config, given, embedding)
    if problems:
        raise ExportError(" ".join(problems), CHOOSE)
    config.vocab_size, config.attention_bias = embedding.num_embeddings, False
    config.num_hidden_layers = len({name.split(".")[2] for name in given if name.startswith("model.layers.")}) or 1
    drafter = EagleDrafter(config, head, [norm for norm, name in _NORMS.items() if name in given])
    given.pop("lm_head.weight", None)  # a copy of the target's
    own = given.get(EMBEDDING)
    if own is None or torch.equal(own.to(embedding.weight.dtype), embedding.weight):
        given.pop(EMBEDDING, None)
        drafter.model.embed_tokens = embedding
    load_drafter(drafter, given, target.dtype)
    return drafter


def head_of(target: PreTrainedModel) -> nn.Module:
    """What makes a target's logits of its last states.

    Raises:
        ExportError: It has no such module.
    """
    head: Any = target.get_output_embeddings()  # type: ignore[no-untyped-call]  # not annotated
    if not isinstance(head, nn.Module):
        raise ExportError(f"{type(target).__name__} has no head that a drafter could share.", CHOOSE)
    return head


def _misfits(config: LlamaConfig, given: Mapping[str, Tensor], embedding: nn.Embedding) -> list[str]:
    """Why a drafter is not one of this target, in sentences."""
    vocab_size, size = embedding.weight.shape
    found = []
    if config.hidden_size != size:
        found.append(f"The drafter's hidden size is {config.hidden_size}, the target's {size}.")
    elif given["fc.weight"].shape[-1] != 2 * size:
        found.append(
            f"The drafter's fc reads {given['fc.weight'].shape[-1]} numbers, but an embedding and a state of the "
            f"target are {2 * size}. (EAGLE-3 drafters, which read three states, have --strategy eagle3.)"
        )
    if "d2t" in given:
        found.append("The drafter has a vocabulary of its own (d2t), as EAGLE-3's have: --strategy eagle3.")
    sizes = {given[name].shape[0] for name in (EMBEDDING, "lm_head.weight") if name in given}
    if not sizes and config.vocab_size != _UNSAID:
        sizes = {config.vocab_size}
    found += [f"The drafter's vocabulary has {one} tokens, the target's {vocab_size}." for one in sizes - {vocab_size}]
    return found


def _place(name: str) -> str:
    """Where a tensor of the public layouts belongs."""
    for prefix, place in _PLACES.items():
        if name.startswith(prefix):
            return place + name.removeprefix(prefix)
    return name


def load_drafter(
    drafter: PreTrainedModel,
    given: Mapping[str, Tensor],
    dtype: torch.dtype,
    there: tuple[str, ...] = (EMBEDDING, "lm_head."),
) -> None:
    """Put weights in their places.

    Args:
        drafter: Linear modules get the biases that are given.
        given: Weights by the drafter's own names.
        dtype: Of the target.
        there: Names, or beginnings of them, of what need not be given because it is the target's.

    Raises:
        CheckpointError: Tensors are missing, of another shape, or have no place; all of them are named.
    """
    for name, module in drafter.named_modules():
        if isinstance(module, nn.Linear) and f"{name}.bias" in given and "bias" not in module.state_dict():
            module.bias = nn.Parameter(torch.zeros(module.out_features))
    fill(drafter, given, dtype, there=there)


EXPORTER = EagleExporter()
