"""mlp-speculator: checkpoints of IBM's accelerators, as fms-extras and vLLM read them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor
from transformers import PreTrainedModel

from ptgc.errors import CheckpointError
from ptgc.exporters.checkpoint.drafter_weights import fill
from ptgc.exporters.modules.mlp_speculator import MlpSpeculator
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

_STEP = re.compile(r"(emb|proj|head|ln)\.(\d{1,4})\.(weight|bias)")


class MlpSpeculatorExporter(HeadsExporter):
    """A state that takes in token by token."""

    def own_names(self, names: Iterable[str]) -> dict[str, str]:
        """With or without the name of the module that they were saved in."""
        return without_prefix(names, ("speculator.",))

    def num_heads(self, names: Iterable[str], settings: Mapping[str, Any]) -> int:
        """What config.json says, because weights may be of one step for all."""
        if not any(map(_STEP.fullmatch, names)):
            raise CheckpointError("The heads' checkpoint is no MLP speculator: it lacks emb.0.weight.", CHOOSE)
        return checked_count("steps (n_predict in config.json)", stated(settings, "n_predict"))

    def heads(
        self,
        target: PreTrainedModel,
        tensors: Mapping[str, Tensor],
        settings: Mapping[str, Any],
        note: Note,  # noqa: ARG002
    ) -> MlpSpeculator:
        """The speculator."""
        inner_size, hidden_size = matrix_size(tensors, "proj.0.weight")
        vocab_size, _ = matrix_size(tensors, "head.0.weight")
        check_sizes(target, hidden_size, vocab_size)
        is_tied = True in (settings.get("tie_weights"), settings.get("tie_wts"))
        made = MlpSpeculator(
            hidden_size,
            inner_size,
            vocab_size,
            self.num_heads(tensors, settings),
            ties_weights=is_tied,
            scales_input=settings.get("scale_input") is True,
        )
        known = made.state_dict().keys()
        # Where weights are tied, some checkpoints have them once, and others for each step.
        given = {name: one for name, one in tensors.items() if name in known or not (is_tied and _STEP.fullmatch(name))}
        fill(made, given, target.dtype, name="the heads")
        return made


EXPORTER = MlpSpeculatorExporter()
