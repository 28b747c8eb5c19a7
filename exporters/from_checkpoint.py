"""Exporting what a path or hub id names."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ptgc.errors import UsageError
from ptgc.exporters.bundle_writer import Progress, export, refuse_existing
from ptgc.exporters.checkpoint.checkpoint import Checkpoint, open_checkpoint
from ptgc.spec import plan as plans
from ptgc.spec.plan import DecodePlan
from ptgc.spec.strategy import Strategy


@dataclass(frozen=True)
class ExportOptions:
    """What to make of a checkpoint."""

    strategy: Strategy = Strategy.NGRAM
    """How the bundle generates; every strategy's bundle also decodes plainly."""
    num_draft_tokens: int | None = None
    """Most draft tokens of a round; the strategy's own default where None."""
    max_ngram_size: int | None = None
    """ngram: longest suffix looked up."""
    min_ngram_size: int | None = None
    """ngram: shortest suffix that counts."""

    def plan(self) -> DecodePlan:
        """The loop that these options describe.

        Raises:
            UsageError: Options of another strategy, or values out of range; all of them are named.
        """
        given = {key: value for key, value in asdict(self).items() if key != "strategy" and value is not None}
        if self.strategy is Strategy.AUTOREGRESSIVE:
            if given:
                names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
                raise UsageError(f"Strategy 'autoregressive' drafts nothing; it takes no {names}.")
            return plans.autoregressive()
        plan = plans.ngram(**given)
        drafter = plan.drafter
        problems = []
        if not 1 <= drafter.num_draft_tokens <= 63:
            problems.append(f"--num-draft-tokens is {drafter.num_draft_tokens}; it must be from 1 to 63.")
        if drafter.min_ngram_size < 1:
            problems.append(f"--min-ngram-size is {drafter.min_ngram_size}; it must be 1 or more.")
        if drafter.max_ngram_size < drafter.min_ngram_size:
            problems.append(
                f"--max-ngram-size is {drafter.max_ngram_size}, below --min-ngram-size {drafter.min_ngram_size}."
            )
        if problems:
            raise UsageError("\n".join(problems))
        return plan


def export_checkpoint(
    model: str | Path,
    output: str | Path,
    options: ExportOptions | None = None,
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
    force: bool = False,
    progress: Progress = lambda _: None,
) -> Path:
    """Export a local directory, GGUF file or hub id into a bundle.

    Raises:
        PtgcError: See `open_checkpoint` and `export`.
    """
    options = options or ExportOptions()
    plan = options.plan()
    refuse_existing(Path(output), force=force)
    progress("Opening the checkpoint")
    checkpoint = open_checkpoint(model, revision=revision, trust_remote_code=trust_remote_code)
    progress("Loading weights")
    module, tokenizer = checkpoint.load_model(), checkpoint.load_tokenizer()
    return export(
        {"target": module},
        plan,
        output,
        tokenizer=tokenizer,
        provenance=_provenance(checkpoint, options),
        force=force,
        progress=progress,
    )


def _provenance(checkpoint: Checkpoint, options: ExportOptions) -> dict[str, Any]:
    """Where the weights came from, without a path of the machine that exported them."""
    local = Path(checkpoint.source).exists()
    arguments = {k: v.value if isinstance(v, Strategy) else v for k, v in asdict(options).items() if v is not None}
    return {
        "source": Path(checkpoint.source).resolve().name if local else checkpoint.source,
        "revision": checkpoint.revision,
        "files": checkpoint.hashes(),
        "arguments": arguments,
    }
