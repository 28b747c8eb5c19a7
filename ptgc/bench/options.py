"""BenchOptions: what to measure, and beside what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class BenchOptions:
    """What to measure."""

    builds: tuple[str, ...] = ()
    """Which builds, of different precisions; none takes the newest one."""
    prompts: tuple[str, ...] = ()
    """Files of prompts or names of sets; none takes the sets chat, code and copy-heavy."""
    num_prompts: int | None = None
    """The first so many of each set; None takes all."""
    against: tuple[str, ...] | None = None
    """Which peers; None takes those that are installed, where there is a checkpoint for them."""
    plain_bundle: Path | None = None
    """A bundle of strategy autoregressive, run beside the others."""
    model: Path | None = None
    """The checkpoint that the bundle was exported from, for peers."""
    drafter: Path | None = None
    """The checkpoint of a drafter, for peers."""
    max_new_tokens: int = 96
    """Tokens of each text."""
    repeats: int = 3
    """Times that each text is written."""
    draft_length: str | None = None
    """`measured` or `fixed`, as in `LoadOptions`; None takes its default."""
    num_threads: int | None = None
    """Threads of every engine; None takes the processors at hand."""

    def arguments(self, bundle: Path) -> list[str]:
        """The command line that says the same."""
        single = {
            "--num-prompts": self.num_prompts,
            "--plain-bundle": self.plain_bundle,
            "--model": self.model,
            "--drafter": self.drafter,
            "--max-new-tokens": self.max_new_tokens,
            "--repeats": self.repeats,
            "--draft-length": self.draft_length,
            "--num-threads": self.num_threads,
        }
        lists = {"--build": self.builds, "--prompts": self.prompts, "--against": self.against}
        given = [str(bundle)]
        for name, value in single.items():
            given += [] if value is None else [name, str(value)]
        for name, values in lists.items():
            given += [name, ",".join(Path(one).name for one in values)] if values else []
        return given
