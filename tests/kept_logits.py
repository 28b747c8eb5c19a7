"""A language model over keys and values that Fast-dLLM and dKV-Cache keep although they change, in plain PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from ptgc.spec.canvas import CanvasCache, CanvasPlan
from tests.block_diffusion import tiny_block_diffusion
from tests.other_models import VOCAB_SIZE


class _Kept(DynamicCache):  # type: ignore[misc]  # transformers has no types
    """Keys and values of a whole text by position, some of which a run replaces."""

    def __init__(self, length: int) -> None:
        super().__init__()
        self.length = length
        self.replaced = torch.arange(length)
        self._layers: dict[int, tuple[Tensor, Tensor]] = {}

    def update(self, keys: Tensor, values: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        shape = (*keys.shape[:2], self.length, keys.shape[3])
        whole = self._layers.setdefault(layer, (torch.full(shape, torch.nan), torch.full(shape, torch.nan)))
        for kept, new in zip(whole, (keys, values), strict=True):
            kept[:, :, self.replaced] = new
        return whole

    def get_seq_length(self, *_: Any) -> int:
        return 0


class KeptLogits:
    """Logits `[length, vocab]` of a text, for `unmask`; those of rows that a round does not read are NaN.

    - prefix, dual (arXiv 2505.22618, section 3.2): the first round of a block reads the text, later ones from the
      block's start on, or the block alone. With shift, also the row before the block.
    - delayed (arXiv 2505.15781): rounds read what was masked before the last round: what it filled, and what still is.
      With shift, also the rows that predicted these. At each interval's start, everything is read.
    """

    def __init__(self, given: Sequence[int], plan: CanvasPlan) -> None:
        self._plan = plan
        self._cache = _Kept(len(given))
        places = [at for at, token in enumerate(given) if token == plan.mask_token_id]
        self._first, self._end = places[0], places[-1] + 1
        self._block = -1
        self._before: Tensor | None = None
        self.counts: list[int] = []
        """Rows of every round."""

    @torch.no_grad()
    def __call__(self, text: Tensor) -> Tensor:
        reads = self._reads(text)
        self._before = text.clone()
        self._cache.replaced = reads
        self.counts.append(len(reads))
        logits = tiny_block_diffusion()(
            input_ids=text[None, reads],
            position_ids=reads[None],
            attention_mask=torch.ones(1, 1, len(reads), len(text), dtype=torch.bool),
            past_key_values=self._cache,
        ).logits[0]
        found = torch.full((len(text), VOCAB_SIZE), torch.nan)
        found[reads] = logits
        return found

    def _reads(self, text: Tensor) -> Tensor:
        everything, plan = torch.arange(len(text)), self._plan
        if plan.cache is CanvasCache.DELAYED:
            if self._before is None or len(self.counts) % plan.cache_interval == 0:
                return everything
            was_masked = self._before == plan.mask_token_id
            if plan.shift:
                was_masked[:-1] |= was_masked[1:].clone()
            return everything[was_masked]
        masked = (text == plan.mask_token_id).nonzero().flatten()
        length = plan.block_length or self._end - self._first
        block, before = (int(masked[0]) - self._first) // length, self._block
        self._block = block
        if block != before:
            return everything
        start = self._first + block * length
        end = min(start + length, self._end) if plan.cache is CanvasCache.DUAL else len(text)
        return everything[max(start - plan.shift, 0) : end]
