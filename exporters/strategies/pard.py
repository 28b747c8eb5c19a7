"""pard: the drafter is a second checkpoint, trained to fill mask tokens after its text."""

from __future__ import annotations

from typing import Any

from ptgc.errors import CheckpointError
from ptgc.exporters.checkpoint.checkpoint import Checkpoint
from ptgc.exporters.strategies.base import Sources
from ptgc.exporters.strategies.draft_model import DraftModelExporter
from ptgc.spec.strategies.base import CheckpointFacts

_MASK_NAMES = ("pard_token", "ptd_token_id")  # those of AMD-AGI/PARD, and of other parallel drafters
_SECOND = "pard2_target_layers"


class PardExporter(DraftModelExporter):
    """A target, and a causal language model that fills masks for it."""

    def open_others(self, options: Any, *, trust_remote_code: bool) -> dict[str, Checkpoint]:
        """The drafter, whose configuration names its mask token."""
        others = super().open_others(options, trust_remote_code=trust_remote_code)
        mask_token(others["drafter"])
        return others

    def facts(self, sources: Sources, tokenizer: Any | None) -> CheckpointFacts:  # noqa: ARG002
        """The mask token of the drafter."""
        return CheckpointFacts(mask_token_id=mask_token(sources.others["drafter"]))


def mask_token(drafter: Checkpoint) -> int:
    """The token that stands for a draft.

    Raises:
        CheckpointError: The configuration names none, or one that the drafter has not; or it is a drafter of PARD-2.
    """
    config = drafter.config.get_text_config()
    if hasattr(config, _SECOND):
        raise CheckpointError(
            f"The drafter '{drafter.source}' reads states of its target's layers ({_SECOND}), as PARD-2 does; "
            "strategy 'pard' takes drafters that read tokens alone.",
            "Choose such a drafter, for instance amd/PARD-Llama-3.2-1B.",
        )
    given = next((found for name in _MASK_NAMES if (found := getattr(config, name, None)) is not None), None)
    if type(given) is not int or not 0 <= given < config.vocab_size:
        said = "names no pard_token" if given is None else f"has the mask token {given!r}"
        raise CheckpointError(
            f"The config.json of the drafter '{drafter.source}' {said}: it must be one of its {config.vocab_size} "
            "tokens, which it was trained to replace.",
            "Choose a drafter that was trained by PARD, or draft with any model by --strategy draft-model.",
        )
    return given


EXPORTER = PardExporter()
