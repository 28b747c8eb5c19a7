"""hydra: checkpoints of zankner/Hydra, which hold the state of its module `hydra_head` alone or a whole model."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaModel, PreTrainedModel

from ptgc.errors import CheckpointError, ExportError
from ptgc.exporters.checkpoint.drafter_weights import fill
from ptgc.exporters.modules.hydra import HydraHeads
from ptgc.exporters.modules.medusa import MedusaHeads
from ptgc.exporters.modules.tap import AttendingTap, Tap
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

_BLOCK = re.compile(r"hydra_mlp\.(\d{1,4})\.(\d{1,4})\.(linear|res_connection)\.(weight|bias)")
_MATRIX = re.compile(r"hydra_lm_head\.(\d{1,4})\.(?:1\.)?(weight|bias)")
_PREFIX = "prefix_embeding_layer."  # so spelled
_NOT_READ = ("input_embed_fn.", f"{_PREFIX}embed_tokens.", f"{_PREFIX}rotary_emb.")  # the target's, or unused
_FREQUENCIES = ".inv_freq"  # follows from the configuration; older attention saved it
_BODY = "tap.body."
_KINDS, _ATTENDING = ("mlp", "prefix-mlp"), ("cross-attn", "eagle-attn")


class HydraExporter(HeadsExporter):
    """Heads that read drafts; or, in checkpoints that are not `grounded`, none."""

    files = ("hydra_lm_head.pt", "hydra_lm_head.safetensors")

    def own_names(self, names: Iterable[str]) -> dict[str, str]:
        """Those of a whole model's checkpoint have a prefix."""
        found = without_prefix(names, ("hydra_head.",))
        return {
            full: name
            for full, name in found.items()
            if not name.startswith(_NOT_READ) and not name.endswith(_FREQUENCIES)
        }

    def num_heads(self, names: Iterable[str], settings: Mapping[str, Any]) -> int:
        """As many as the weights have, or more where config.json says so, which then lack some.

        Raises:
            ExportError: They are of a kind that needs a cache.
        """
        kind = settings.get("hydra_head_arch", "mlp")
        if kind in _ATTENDING:
            raise ExportError(
                f"Hydra heads of the kind '{kind}' are not exported: they attend to the whole text anew for every "
                "draft, which needs a cache of their own in the middle of a round.",
                f"Choose a checkpoint whose config.json has hydra_head_arch {' or '.join(_KINDS)}.",
            )
        found = [int(block[1]) + 1 for block in map(_BLOCK.fullmatch, names) if block]
        if not found or kind not in _KINDS:
            raise CheckpointError(
                f"The heads' checkpoint, of the kind {kind!r}, has no Hydra heads such as hydra_mlp.0.0.linear.weight.",
                CHOOSE,
            )
        return checked_count("heads", max(*found, stated(settings, "hydra_num_heads")))

    def heads(
        self,
        target: PreTrainedModel,
        tensors: Mapping[str, Tensor],
        settings: Mapping[str, Any],
        note: Note,  # noqa: ARG002
    ) -> nn.Module:
        """The heads, on the last hidden state, an earlier one, or one that layers of their own prepare."""
        num_heads = self.num_heads(tensors, settings)
        has_prefix = settings.get("hydra_head_arch") == "prefix-mlp"
        tensors = {_place(name, 2 if has_prefix else 1): tensor for name, tensor in tensors.items()}
        layers = [int(name.split(".")[2]) + 1 for name in tensors if name.startswith("blocks.")]
        num_layers = checked_count("layers in a head", max([*layers, stated(settings, "hydra_num_layers")]))
        hidden_size, _ = matrix_size(tensors, "blocks.0.0.linear.weight")
        vocab_size, _ = matrix_size(tensors, "lm_heads.0.weight")
        check_sizes(target, hidden_size, vocab_size)
        made: HydraHeads | MedusaHeads
        if settings.get("grounded_heads") is True:
            embedding = target.get_input_embeddings()
            assert isinstance(embedding, nn.Embedding)
            made = HydraHeads(embedding, num_heads, num_layers)
        else:
            made = MedusaHeads(hidden_size, vocab_size, num_heads, num_layers, has_logits_bias=True)
        made.tap = _tap(target, settings)
        if has_prefix:
            made.tap = AttendingTap(_prefix(target), made.tap.layers)
            tensors[f"{_BODY}embed_tokens.weight"] = torch.zeros(1, hidden_size)
        fill(made, tensors, target.dtype, shared=("embedding.",), name="the heads")
        return made


def _place(name: str, stride: int) -> str:
    """A tensor's name in our module; in theirs, each block may be preceded by a dropout that has no tensors."""
    block, matrix = _BLOCK.fullmatch(name), _MATRIX.fullmatch(name)
    if block and int(block[2]) % stride == stride - 1:
        return f"blocks.{int(block[1])}.{int(block[2]) // stride}.{block[3]}.{block[4]}"
    if name.startswith(_PREFIX):
        return f"{_BODY}{name.removeprefix(_PREFIX)}"
    return f"lm_heads.{int(matrix[1])}.{matrix[2]}" if matrix else name


def _prefix(target: PreTrainedModel) -> LlamaModel:
    """A layer like the target's, which reads its states.

    Raises:
        ExportError: The target is no Llama.
    """
    if not isinstance(target.config, LlamaConfig):
        raise ExportError(
            f"Hydra's kind 'prefix-mlp' has a layer of Llama's; the target is a {type(target).__name__}.", CHOOSE
        )
    config = copy.deepcopy(target.config)
    config.num_hidden_layers, config.vocab_size, config.pad_token_id = 1, 1, None  # it reads no tokens
    return LlamaModel(config)


def _tap(target: PreTrainedModel, settings: Mapping[str, Any]) -> Tap:
    """The state that the heads read: the last one, or what enters one of the last layers.

    Raises:
        CheckpointError: The target has no such layer.
    """
    offset, total = settings.get("hidden_state_offset", 0), target.config.get_text_config().num_hidden_layers
    if type(offset) is not int or not 0 <= offset <= total:
        raise CheckpointError(
            f"config.json of the heads has hidden_state_offset {offset!r}; the target has {total} layers.", CHOOSE
        )
    return Tap((total - offset,)) if offset else Tap()


EXPORTER = HydraExporter()
