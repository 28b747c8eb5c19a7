"""The task of a transformers checkpoint, from the architecture that its configuration names."""

from __future__ import annotations

from enum import Enum
from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

from ptgc.errors import CheckpointError


class Task(Enum):
    """A kind of model that ptgc exports; the values name it for messages."""

    CAUSAL_LM = "causal language model"
    SEQ2SEQ_LM = "encoder-decoder"
    MASKED_LM = "masked language model"
    DIFFUSION_LM = "diffusion language model"
    DRAFTER = "learned drafter, which is part of no model"

    @property
    def auto_class(self) -> Any:
        """The class of transformers that loads it."""
        return _AUTO_CLASSES[self]


_AUTO_CLASSES: dict[Task, Any] = {
    Task.CAUSAL_LM: AutoModelForCausalLM,
    Task.SEQ2SEQ_LM: AutoModelForSeq2SeqLM,
    Task.MASKED_LM: AutoModelForMaskedLM,
    Task.DIFFUSION_LM: AutoModelForCausalLM,
}
_ARCHITECTURES = {
    Task.CAUSAL_LM: MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    Task.SEQ2SEQ_LM: MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    Task.MASKED_LM: MODEL_FOR_MASKED_LM_MAPPING_NAMES,
}


def task_of(source: str, settings: dict[str, Any], *, trust_remote_code: bool = False) -> Task:
    """The task of the checkpoint with this config.json; the first of several that fit.

    Args:
        source: What the user gave, for the message.
        settings: config.json.
        trust_remote_code: Whether a model may come with its own code.

    Raises:
        CheckpointError: ptgc does not export its architecture.
    """
    auto_map = settings.get("auto_map")
    if trust_remote_code and isinstance(auto_map, dict):
        own = [task for task in _AUTO_CLASSES if task.auto_class.__name__ in auto_map]
        if own:
            return own[0]
    architectures, model_type = settings.get("architectures"), settings.get("model_type")
    names = [str(name) for name in architectures] if isinstance(architectures, list) else []
    for task, known in _ARCHITECTURES.items():
        if names and not set(known.values()).isdisjoint(names):
            return task
        if not names and model_type in known:
            return task
    kinds = [task.value for task in _AUTO_CLASSES]
    raise CheckpointError(
        f"Cannot open the checkpoint '{source}': its architecture, {', '.join(names) or repr(model_type)}, "
        f"is not a {', '.join(kinds[:-1])} or {kinds[-1]}.",
        "Give a checkpoint whose architecture is one, for example LlamaForCausalLM.",
    )
