"""Drafters that can draft some of the target's tokens only: their logits as logits of all tokens."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_NEVER = -30000.0  # logit of tokens that cannot be drafted, which half precision holds


def places_of(drafted_ids: Sequence[int], vocab_size: int) -> Tensor:
    """Where each of the target's tokens is among the drafter's logits, `[vocab]`; behind them if it is not drafted."""
    places = torch.full((vocab_size,), len(drafted_ids))
    places[torch.tensor(drafted_ids)] = torch.arange(len(drafted_ids))
    return places


def of_all_tokens(logits: Tensor, places: Tensor) -> Tensor:
    """Logits `[..., vocab]` from those of the drafted tokens; all others are far below."""
    never = torch.full_like(logits[..., :1], _NEVER)
    return torch.cat([logits, never], dim=-1).index_select(-1, places)
