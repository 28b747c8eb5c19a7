"""ExportOptions: what to make of a checkpoint, validated as a whole."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum
from typing import Any

from ptgc.errors import ExportError, UsageError
from ptgc.spec import plan as plans
from ptgc.spec.acceptance import AcceptanceRule
from ptgc.spec.plan import DecodePlan
from ptgc.spec.strategy import DrafterVocabulary, Strategy

MAX_DRAFT_TOKENS = 63

_TAKES = {
    Strategy.AUTOREGRESSIVE: (),
    Strategy.NGRAM: ("num_draft_tokens", "max_ngram_size", "min_ngram_size"),
    Strategy.DRAFT_MODEL: ("drafter", "num_draft_tokens", "acceptance", "drafter_vocabulary"),
    Strategy.MASKED_DIFFUSION: ("num_steps", "threshold", "block_length"),
}


@dataclass(frozen=True)
class ExportOptions:
    """What to make of a checkpoint; None takes the strategy's own default."""

    strategy: Strategy | None = None
    """How the bundle generates: by default what the checkpoint is, ngram for a causal language model."""
    drafter: str | None = None
    """draft-model: the drafter's checkpoint, a local directory, GGUF file or hub id."""
    num_draft_tokens: int | None = None
    """ngram, draft-model: most draft tokens of a round."""
    max_ngram_size: int | None = None
    """ngram: longest suffix looked up."""
    min_ngram_size: int | None = None
    """ngram: shortest suffix that counts."""
    acceptance: AcceptanceRule | None = None
    """draft-model: which drafts are kept when sampling."""
    drafter_vocabulary: DrafterVocabulary | None = None
    """draft-model: how the drafter's token ids relate to the target's."""
    num_steps: int | None = None
    """masked-diffusion: rounds in which a canvas, or a block of it, is filled."""
    threshold: float | None = None
    """masked-diffusion: fill every position of more confidence in the same round; none where None."""
    block_length: int | None = None
    """masked-diffusion: positions filled before the next ones are begun."""

    def given(self) -> dict[str, Any]:
        """The options that were set, in JSON's types."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {k: v.value if isinstance(v, Enum) else v for k, v in values.items() if v is not None}

    def check(self, strategy: Strategy | None) -> None:
        """Refuse options that the strategy does not have, and values out of range.

        Args:
            strategy: How the bundle generates; None before that is known.

        Raises:
            UsageError: Naming every one of them.
        """
        problems = self._out_of_range() + (self._unfitting(strategy) if strategy else [])
        if problems:
            raise UsageError("\n".join(problems))

    def _unfitting(self, strategy: Strategy) -> list[str]:
        """What is wrong with these options for a strategy."""
        if strategy not in _TAKES:
            return [
                f"Strategy '{strategy.value}' has no checkpoint format that ptgc export reads: export its PyTorch "
                "modules, with ptgc.exporters.export."
            ]
        takes = _TAKES[strategy]
        foreign = [name for name in self.given() if name != "strategy" and name not in takes]
        problems = []
        if foreign:
            has = ", ".join(_option(name) for name in takes) or "no options"
            names = ", ".join(_option(name) for name in foreign)
            problems.append(f"Strategy '{strategy.value}' takes no {names}; it has {has}.")
        if strategy is Strategy.DRAFT_MODEL and self.drafter is None:
            problems.append("Strategy 'draft-model' needs a drafter: --drafter PATH.")
        return problems

    def _out_of_range(self) -> list[str]:
        """What is wrong with values, whichever strategy they are for."""
        problems = []
        if self.num_draft_tokens is not None and not 1 <= self.num_draft_tokens <= MAX_DRAFT_TOKENS:
            given = self.num_draft_tokens
            problems.append(f"--num-draft-tokens is {given}; it must be from 1 to {MAX_DRAFT_TOKENS}.")
        counts = {name: getattr(self, name) for name in ("min_ngram_size", "num_steps")}
        problems += [
            f"{_option(name)} is {value}; it must be 1 or more."
            for name, value in counts.items()
            if value is not None and value < 1
        ]
        default = plans.ngram().drafter
        longest, shortest = self.max_ngram_size, self.min_ngram_size
        longest = default.max_ngram_size if longest is None else longest
        shortest = default.min_ngram_size if shortest is None else shortest
        if longest < shortest:
            problems.append(f"--max-ngram-size is {longest}, below --min-ngram-size {shortest}.")
        if self.threshold is not None and not 0 < self.threshold < 1:
            problems.append(f"--threshold is {self.threshold}; it must be between 0 and 1.")
        if self.block_length is not None and self.block_length < 0:
            problems.append(f"--block-length is {self.block_length}; it must be 0, for the whole canvas, or more.")
        return problems

    def plan(self, strategy: Strategy, mask_token_id: int | None = None) -> DecodePlan:
        """The loop that these options, once checked, describe.

        Args:
            strategy: How the bundle generates.
            mask_token_id: masked-diffusion: what stands at a position that is still to be filled.

        Raises:
            ExportError: masked-diffusion on a model without a mask token.
        """
        values = {name: value for name in _TAKES[strategy] if (value := getattr(self, name)) is not None}
        values.pop("drafter", None)
        if "drafter_vocabulary" in values:
            values["vocabulary"] = values.pop("drafter_vocabulary")
        if strategy is Strategy.AUTOREGRESSIVE:
            return plans.autoregressive()
        if strategy is Strategy.NGRAM:
            return plans.ngram(**values)
        if strategy is Strategy.DRAFT_MODEL:
            return plans.draft_model(**values)
        if mask_token_id is None:
            raise ExportError(
                "Strategy 'masked-diffusion' needs a mask token, and this checkpoint's tokenizer names none.",
                "Add mask_token to its tokenizer_config.json.",
            )
        return plans.masked_diffusion(mask_token_id, **values)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
