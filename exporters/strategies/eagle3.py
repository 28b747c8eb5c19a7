"""eagle3: checkpoints of EAGLE-3 drafters, in the layouts of SafeAILab/EAGLE and vllm-project/speculators."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers import LlamaConfig, PreTrainedModel

from ptgc.errors import CheckpointError, ExportError
from ptgc.exporters.checkpoint.drafter_weights import drafted_ids
from ptgc.exporters.modules.eagle3 import Eagle3Drafter
from ptgc.exporters.modules.tap import Tap
from ptgc.exporters.strategies.eagle import CHOOSE, EMBEDDING, StateReaderExporter, load_drafter

_LAYER_PREFIXES = ("midlayer.", "layers.0.")
_IGNORED = ("t2d", "d2t")
_TAP_LAYERS = "eagle_aux_hidden_state_layer_ids"


class Eagle3Exporter(StateReaderExporter):
    """A target, and an EAGLE-3 drafter that was trained for it."""

    def drafter(self, target: PreTrainedModel, config: LlamaConfig, tensors: Mapping[str, Tensor]) -> Eagle3Drafter:
        """See `eagle3_drafter`."""
        return eagle3_drafter(target, config, tensors)


def eagle3_drafter(target: PreTrainedModel, config: LlamaConfig, tensors: Mapping[str, Tensor]) -> Eagle3Drafter:
    """The drafter that weights of a public layout are.

    Args:
        target: The model that it was trained for, whose embedding it shares where it has none.
        config: Of its layer.
        tensors: `fc.weight`, `midlayer.*` or `layers.0.*`, `norm.weight`, `lm_head.weight`, and where it drafts fewer
            tokens than the target has, `d2t`: what is to be added to a drafted id.

    Raises:
        CheckpointError: Tensors are missing or of another shape; all of them are named.
        ExportError: They are a drafter of another target.
    """
    text = target.config.get_text_config()
    embedding = target.get_input_embeddings()
    assert isinstance(embedding, nn.Embedding)
    for name in ("fc.weight", "lm_head.weight"):
        if name not in tensors:
            raise CheckpointError(f"The drafter's weights lack {name}: it is no EAGLE-3 drafter.", CHOOSE)
    if getattr(config, "norm_output", False):
        raise CheckpointError(
            "The drafter's config.json has norm_output, which is not supported: it would read normalised states of its "
            "own.",
            CHOOSE,
        )
    config.vocab_size = text.vocab_size
    config.num_hidden_layers = 1
    if "embed_tokens.weight" not in tensors and config.hidden_size != embedding.embedding_dim:
        raise ExportError(
            f"The drafter's hidden size is {config.hidden_size}, the target's {embedding.embedding_dim}.", CHOOSE
        )
    tap = _tap(config, tensors["fc.weight"], text)
    drafter = Eagle3Drafter(config, tap, drafted_ids(tensors, len(tensors["lm_head.weight"]), text.vocab_size))
    if "embed_tokens.weight" not in tensors:
        drafter.model.embed_tokens = embedding
    given = {_place(name): tensor for name, tensor in tensors.items() if name not in _IGNORED}
    load_drafter(drafter, given, target.dtype)
    return drafter


def _tap(config: LlamaConfig, weight: Tensor, text: Any) -> Tap:
    """The states that `fc` reads: `[drafter's hidden, layers * target's hidden]`."""
    total, size = text.num_hidden_layers, text.hidden_size
    settings = getattr(config, "eagle_config", None) or {}
    layers = settings.get(_TAP_LAYERS) or getattr(config, _TAP_LAYERS, None) or (2, total // 2, total - 3)
    if weight.shape[1] != len(layers) * size:
        raise ExportError(
            f"The drafter reads {weight.shape[1]} numbers of the target's layers {', '.join(map(str, layers))}, which "
            f"give {len(layers)} times {size}.",
            CHOOSE,
        )
    if not all(0 <= layer < total for layer in layers):
        raise ExportError(f"The drafter reads layers {list(layers)}; the target has {total}.", CHOOSE)
    return Tap(layers, nn.Linear(weight.shape[1], weight.shape[0], bias=False))


def _place(name: str) -> str:
    """Where a tensor of the public layouts belongs."""
    for prefix in _LAYER_PREFIXES:
        if name.startswith(prefix):
            return f"model.layers.0.{name.removeprefix(prefix)}"
    places = {"fc.weight": "tap.project.weight", "embed_tokens.weight": EMBEDDING}
    return places.get(name, name)


EXPORTER = Eagle3Exporter()
