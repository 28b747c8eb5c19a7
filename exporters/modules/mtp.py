"""MTP: a layer that a model was trained with to predict a second token, as a drafter."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ptgc.exporters.modules.tap import StateReader, Tap


class MtpDrafter(StateReader, PreTrainedModel):  # type: ignore[no-untyped-call]  # transformers registers subclasses
    """Drafts token t + 2 from token t + 1 and the state of token t (DeepSeek-V3, arXiv 2412.19437, section 2.2).

    The paper's layer predicts one token; behind it, the layer reads its own draft and its own state, after its norm.

    Args:
        model: The target's body with this one layer, and the layer's own norm in place of the target's.
        head: The target's head.
        states_first: Whether the projection reads the state before the embedding.
    """

    base_model_prefix = "model"
    _supports_sdpa = True  # as far as the body does, whose configuration it shares

    def __init__(self, model: PreTrainedModel, head: nn.Module, *, states_first: bool = False) -> None:
        super().__init__(model.config)
        size = model.config.hidden_size
        norm: Any = model.norm
        self.model = model
        self.embedding_norm: nn.Module = copy.deepcopy(norm)
        self.states_norm: nn.Module = copy.deepcopy(norm)
        self.fc = nn.Linear(2 * size, size, bias=False)
        self.lm_head = head
        self.states_first = states_first
        self.tap = Tap()
        self.states_size = size

    def join(self, embedded: Tensor, states: Tensor) -> Tensor:
        """`[batch, num_tokens, hidden]`."""
        pair = [self.embedding_norm(embedded), self.states_norm(states)]
        made: Tensor = self.fc(torch.cat(pair[::-1] if self.states_first else pair, dim=-1))
        return made

    def score(self, states: Tensor) -> Tensor:
        """Logits of the target's head."""
        made: Tensor = self.lm_head(states)
        return made

    @classmethod
    def _can_set_experts_implementation(cls) -> bool:
        """As the body does; transformers looks for experts in this file."""
        return True
