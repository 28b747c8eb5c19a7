"""Strategies, loops and drafters by name."""

from __future__ import annotations

from enum import Enum


class Loop(str, Enum):
    """The four loops that every strategy is one of."""

    SPECULATIVE = "speculative"
    CANVAS = "canvas"
    EDIT = "edit"
    ONE_SHOT = "one-shot"


class Strategy(str, Enum):
    """How a bundle generates. The values are the names on the command line."""

    AUTOREGRESSIVE = "autoregressive"
    NGRAM = "ngram"
    DRAFT_MODEL = "draft-model"
    MASKED_DIFFUSION = "masked-diffusion"
    CTC = "ctc"
    LEVENSHTEIN = "levenshtein"

    @property
    def loop(self) -> Loop:
        """The loop that runs this strategy."""
        return _LOOPS.get(self, Loop.SPECULATIVE)

    @property
    def lossless(self) -> bool:
        """Whether the text is that of plain decoding of the same build; only the speculative loop decodes plainly."""
        return self.loop is Loop.SPECULATIVE


_LOOPS = {
    Strategy.MASKED_DIFFUSION: Loop.CANVAS,
    Strategy.CTC: Loop.ONE_SHOT,
    Strategy.LEVENSHTEIN: Loop.EDIT,
}


class DrafterKind(str, Enum):
    """Where draft tokens come from."""

    NONE = "none"
    NGRAM = "ngram"
    MODEL = "model"


class NgramMatch(str, Enum):
    """Which of equally long matches of an n-gram is continued."""

    LATEST = "latest"
    """The most recent one; where its continuation meets the end of the text, it goes on with its own beginning."""
    FIRST = "first"
    """The earliest one, up to the end of the text: as transformers' prompt lookup."""


class DrafterVocabulary(str, Enum):
    """How a drafter's token ids relate to the target's."""

    SHARED = "shared"
    """They are the same ids."""
    REENCODED = "re-encoded"
    """Texts are decoded and encoded again between both tokenizers."""
