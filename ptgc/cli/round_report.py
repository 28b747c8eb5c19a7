"""The page that `ptgc run --report` writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptgc.errors import UsageError
from ptgc.spec.loop import Loop
from ptgc.spec.output import write_output

if TYPE_CHECKING:
    from ptgc.runtime import GenerationResult, Generator
    from ptgc.runtime.text import TextCodec
    from ptgc.spec.plan import DecodePlan


def check_has_rounds(generator: Generator) -> None:
    """Check that there will be something to show.

    Raises:
        UsageError: The bundle's loop neither drafts and verifies nor fills a canvas.
    """
    plan = generator.bundle.manifest.plan
    if plan.loop not in (Loop.SPECULATIVE, Loop.CANVAS):
        raise UsageError(
            f"--report shows drafts and their verification, or how a canvas was filled; strategy '{plan.strategy}' has "
            "neither.",
            "--trace writes what every round did.",
        )


def write_report(path: Path, generator: Generator, result: GenerationResult, prompt: Any) -> None:
    """Write the page of a text that was traced.

    Raises:
        StorageError: The file cannot be written.
    """
    from ptgc.report.canvas import canvas_page
    from ptgc.report.rounds import rounds_page

    codec, plan = generator.codec, generator.bundle.manifest.plan
    shown = _before_text(codec, plan, prompt) if codec is not None and isinstance(prompt, str) else ""

    def read(token: int) -> str:
        return f"{token} " if codec is None else codec.decode([token]) or f"<{token}>"

    if codec is None:
        pieces = [f"{token} " for token in result.token_ids]
    else:
        growing = codec.growing(codec.encode(shown) if shown else ())
        pieces = [growing.append([token]) for token in result.token_ids]
    if plan.loop is Loop.CANVAS:
        html = canvas_page(result, pieces, read, shown)
    else:
        html = rounds_page(result, pieces, read, shown, [one.kind for one in plan.drafter.parts])
    write_output(path, html.encode())


def _before_text(codec: TextCodec, plan: DecodePlan, prompt: str) -> str:
    """The part of a prompt that lies before the text: of one with masks, what precedes the first."""
    if plan.canvas is None or plan.canvas.mask_token_id not in (ids := codec.encode(prompt)):
        return prompt
    return codec.decode(ids[: ids.index(plan.canvas.mask_token_id)])
