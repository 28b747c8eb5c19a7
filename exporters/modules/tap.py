"""Taps: what a drafter reads of its target beside tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast


class Tap(nn.Module):
    """States that enter some of the target's layers, side by side, and what a projection makes of them.

    The state that enters the layer after the last one is the one that the target's head reads.

    It becomes a part of the target's graph, so that a drafter of any number of layers reads rows of one size.

    Args:
        layers: The layers, ascending from 0; none for the state that the target's head reads.
        project: What the drafter makes of them first, if anything.
    """

    def __init__(self, layers: Sequence[int] = (), project: nn.Module | None = None) -> None:
        super().__init__()
        self.layers = tuple(layers)
        self.project = project or nn.Identity()

    def forward(self, states: Sequence[Tensor]) -> Tensor:
        """States of the layers, each `[batch, num_tokens, hidden]`, as the drafter reads them."""
        made: Tensor = self.project(torch.cat(tuple(states), dim=-1))
        return made


class AttendingTap(Tap):
    """States of the target, as layers of a drafter prepare them that attend to the whole text.

    They are read with the target, and their keys and values are kept beside its own.

    Args:
        body: Layers with the positions of the target, over rows of its hidden size.
        layers: As for other taps, at most one.
    """

    def __init__(self, body: PreTrainedModel, layers: Sequence[int] = ()) -> None:
        super().__init__(layers)
        self.body = body

    def prepare(self, states: Sequence[Tensor], position_ids: Tensor, cache: Cache) -> Tensor:
        """States `[batch, num_tokens, hidden]` as the drafter reads them."""
        made: Tensor = self.body(
            inputs_embeds=states[0], position_ids=position_ids, past_key_values=cache, use_cache=True
        ).last_hidden_state
        return made


class StateReader:
    """A causal language model over pairs: a token, and a state of the token before it.

    The state is what the tap gives; behind drafts, what the model itself made of the token before.
    """

    tap: Tap
    """What it reads of the target."""
    states_size: int
    """Size of one row of it."""
    model: Any
    """The body, a `PreTrainedModel`: layers over rows of any size, whose last states the next draft reads."""

    def join(self, embedded: Tensor, states: Tensor) -> Tensor:
        """What the body reads of embeddings and states, each `[batch, num_tokens, size]`."""
        raise NotImplementedError

    def score(self, states: Tensor) -> Tensor:
        """Logits of all of the target's tokens, `[batch, num_tokens, vocab]`, from the body's states."""
        raise NotImplementedError

    def forward(self, input_ids: Tensor, hidden_states: Tensor, **others: Any) -> CausalLMOutputWithPast:
        """Logits behind tokens `[batch, num_tokens]` with the state before each, and the states that made them."""
        rows = self.join(self.model.get_input_embeddings()(input_ids), hidden_states)
        made = self.model(inputs_embeds=rows, **others).last_hidden_state
        return CausalLMOutputWithPast(logits=self.score(made), hidden_states=made)


class BlockReader(StateReader):
    """A model that drafts at the rows of a block, in one run, and takes the text before it as states alone.

    Its `forward` also takes `is_context`, bool `[batch, num_tokens]`: rows of the text, which only give keys and
    values, made of `hidden_states`, what the tap gives of the same token. The block's rows are tokens, and their states
    are not read.
    """


class LayersReader(StateReader):
    """A model whose layers, one behind the other, draft a token each in one run.

    Its `forward` also takes `last_rows`, int64 `[batch, 1]`: the row of the last token of each text, by default the
    last one. It gives logits `[batch, num_layers, vocab]`, of the drafts behind these rows.
    """


def tap_of(drafter: nn.Module) -> Tap:
    """What a drafter that reads states reads."""
    tap = getattr(drafter, "tap", None)
    return tap if isinstance(tap, Tap) else Tap()


def stand_in_states(model: object, ids: Tensor) -> dict[str, Tensor]:
    """States made of nothing but the tokens `[batch, num_tokens]`, for a model that reads some; none for others."""
    if not isinstance(model, StateReader):
        return {}
    dtype = next(model.parameters()).dtype if isinstance(model, nn.Module) else torch.float32
    waves = torch.sin((ids[..., None] + 1) * torch.linspace(0.1, 2.9, model.states_size))
    return {"hidden_states": waves.to(dtype)}
