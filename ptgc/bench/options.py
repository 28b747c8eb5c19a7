"""BenchOptions: what to measure, and what to compare it with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class BenchOptions:
    """What to measure."""

    builds: tuple[str, ...] = ()
    """Builds to measure, of different precisions; empty takes the newest."""
    prompts: tuple[str, ...] = ()
    """Prompt files or names of sets; empty takes the sets chat, code and copy-heavy."""
    num_prompts: int | None = None
    """How many prompts of each set to use; None uses all."""
    against: tuple[str, ...] | None = None
    """Which peers; None takes all installed ones if there is a checkpoint for them."""
    plain_bundle: Path | None = None
    """A bundle of strategy autoregressive to measure too."""
    beside: tuple[Path, ...] = ()
    """Further bundles of the same model, whose strategies are measured too."""
    model: Path | None = None
    """The checkpoint that the bundle was exported from, for peers."""
    drafter: Path | None = None
    """The checkpoint of a drafter, for peers."""
    max_new_tokens: int = 96
    """New tokens of each text."""
    repeats: int = 3
    """How often each text is written."""
    draft_length: str | None = None
    """`measured` or `fixed`, as in `LoadOptions`; None takes its default."""
    datastore: Path | None = None
    """The datastore to draft from, for strategies that do."""
    num_threads: int | None = None
    """Threads of every engine; None takes the available processors."""

    def arguments(self, bundle: Path) -> list[str]:
        """The equivalent command line."""
        single = {
            "--num-prompts": self.num_prompts,
            "--plain-bundle": self.plain_bundle,
            "--model": self.model,
            "--drafter": self.drafter,
            "--max-new-tokens": self.max_new_tokens,
            "--repeats": self.repeats,
            "--draft-length": self.draft_length,
            "--datastore": self.datastore,
            "--num-threads": self.num_threads,
        }
        lists: dict[str, Sequence[str | Path] | None] = {
            "--build": self.builds,
            "--prompts": self.prompts,
            "--against": self.against,
            "--beside": self.beside,
        }
        given = [str(bundle)]
        for name, value in single.items():
            given += [] if value is None else [name, str(value)]
        for name, values in lists.items():
            given += [name, ",".join(Path(one).name for one in values)] if values else []
        return given
