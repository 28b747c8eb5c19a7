"""The page that `ptgc run --report` writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptgc.errors import UsageError
from ptgc.spec.loop import Loop
from ptgc.spec.output import write_output

if TYPE_CHECKING:
    from ptgc.runtime import GenerationResult, Generator


def check_has_rounds(generator: Generator) -> None:
    """Check that there will be something to show.

    Raises:
        UsageError: The bundle's loop does not draft and verify.
    """
    plan = generator.bundle.manifest.plan
    if plan.loop is not Loop.SPECULATIVE:
        raise UsageError(
            f"--report shows drafts and their verification; strategy '{plan.strategy}' has none.",
            "--trace writes what every round did.",
        )


def write_report(path: Path, generator: Generator, result: GenerationResult, prompt: Any) -> None:
    """Write the page of a text that was traced.

    Raises:
        StorageError: The file cannot be written.
    """
    from ptgc.report.rounds import rounds_page

    codec = generator.codec
    drafters = [one.kind for one in generator.bundle.manifest.plan.drafter.parts]
    if codec is None:
        pieces = [f"{token} " for token in result.token_ids]
        html = rounds_page(result, pieces, lambda token: f"{token} ", drafters=drafters)
    else:
        growing = codec.growing()
        pieces = [growing.append([token]) for token in result.token_ids]
        shown = prompt if isinstance(prompt, str) else ""
        html = rounds_page(result, pieces, lambda token: codec.decode([token]) or f"<{token}>", shown, drafters)
    write_output(path, html.encode())
