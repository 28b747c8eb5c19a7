"""MTP: layers that a model was trained with to predict further tokens, as drafters."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from ptgc.exporters.modules.tap import LayersReader, StateReader, Tap
from ptgc.exporters.tracing.operators import gather_rows


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


class MtpLayers(LayersReader, PreTrainedModel):  # type: ignore[no-untyped-call]  # transformers registers subclasses
    """Layer k drafts token t + k + 1 from token t + k and the state that layer k - 1 made of token t.

    DeepSeek-V3, arXiv 2412.19437, section 2.2, figure 3. Here a text ends with t3, and s is the target's state:

        row           0        1        2
        layer 1   (t1, s0) (t2, s1) (t3, s2)  -> a0 a1 a2, and the draft d1 from a2
        layer 2   (t2, a0) (t3, a1) (d1, a2)  -> b0 b1 b2, and the draft d2 from b2
        layer 3   (t3, b0) (d1, b1) (d2, b2)  -> the draft d3

    Args:
        layers: The layers, each as the drafter that it would be alone.
    """

    base_model_prefix = ""  # there is no body that all layers share
    _supports_sdpa = True  # as far as the bodies do

    def __init__(self, layers: Sequence[MtpDrafter]) -> None:
        config = copy.deepcopy(layers[0].config)
        config.num_hidden_layers = len(layers)
        super().__init__(config)
        self.layers = nn.ModuleList(layers)
        self.tap = Tap()
        self.states_size = layers[0].states_size

    def forward(
        self,
        input_ids: Tensor,
        hidden_states: Tensor,
        last_rows: Tensor | None = None,
        position_ids: Tensor | None = None,
        **others: Any,
    ) -> CausalLMOutputWithPast:
        """Logits `[batch, num_layers, vocab]` of the drafts behind the rows `last_rows`, by default the last ones."""
        states, logits = hidden_states, list[Tensor]()
        batch, length = input_ids.shape
        if last_rows is None:
            last_rows = torch.full((batch, 1), length - 1)
        if position_ids is None:
            position_ids = torch.arange(length).expand(batch, -1)
        # Of text in order. With numbers made from its length, TensorRT would not infer sizes behind the choice of ids.
        row = position_ids - position_ids[:, :1]
        for one in self.layers:
            assert isinstance(one, MtpDrafter)
            if logits:
                following = input_ids.gather(1, (row + 1).clamp(max=length - 1))
                input_ids = torch.where(row == last_rows, logits[-1].argmax(dim=-1), following)
            rows = one.join(one.model.get_input_embeddings()(input_ids), states)
            states = one.model(inputs_embeds=rows, position_ids=position_ids, **others).last_hidden_state
            logits.append(one.score(gather_rows(states, last_rows)))
        return CausalLMOutputWithPast(logits=torch.cat(logits, dim=1))

    def set_experts_implementation(self, experts_implementation: str | dict[str, str]) -> None:
        """Also that of the layers, whose configurations are their own."""
        super().set_experts_implementation(experts_implementation)
        for one in self.layers:
            assert isinstance(one, MtpDrafter)
            one.set_experts_implementation(experts_implementation)

    @classmethod
    def _can_set_experts_implementation(cls) -> bool:
        """As the bodies do; transformers looks for experts in this file."""
        return True
