"""EAGLE's drafter: Llama layers that read tokens beside the target's last states, and the target's head."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaModel, LlamaPreTrainedModel, LlamaRMSNorm

from ptgc.exporters.modules.tap import StateReader, Tap


class EagleBody(LlamaModel):  # type: ignore[no-untyped-call]  # transformers registers subclasses
    """Layers, with the embedding and the positions of a Llama; the next draft reads their states without a norm."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.norm: nn.Module = nn.Identity()  # type: ignore[assignment]  # see above


class EagleDrafter(StateReader, LlamaPreTrainedModel):  # type: ignore[no-untyped-call]  # transformers registers subclasses
    """Drafts token t + 2 from token t + 1 and the state of token t (Li et al., arXiv 2401.15077, section 4.1).

    Args:
        config: Of the layers: `vocab_size` and `hidden_size` are the target's.
        head: The target's head.
        norms: Those of `embedding_norm`, `input_norm` (of the first layer) and `head_norm` that it has. The paper's
            drafter has none of them.
    """

    base_model_prefix = "model"

    def __init__(self, config: LlamaConfig, head: nn.Module, norms: Collection[str] = ()) -> None:
        super().__init__(config)
        size = config.hidden_size
        made = {name: LlamaRMSNorm(size, eps=config.rms_norm_eps) for name in norms}
        self.model = EagleBody(config)
        self.model.layers[0].input_layernorm = made.get("input_norm", nn.Identity())
        self.fc = nn.Linear(2 * size, size, bias=False)
        self.embedding_norm = made.get("embedding_norm", nn.Identity())
        self.head_norm = made.get("head_norm", nn.Identity())
        self.tap = Tap()
        self.states_size = size
        self.post_init()  # type: ignore[no-untyped-call]  # not annotated
        self.lm_head = head  # after the above, which would initialise it

    def join(self, embedded: Tensor, states: Tensor) -> Tensor:
        """`[batch, num_tokens, hidden]`."""
        made: Tensor = self.fc(torch.cat([self.embedding_norm(embedded), states], dim=-1))
        return made

    def score(self, states: Tensor) -> Tensor:
        """Logits of the target's head."""
        made: Tensor = self.lm_head(self.head_norm(states))
        return made
