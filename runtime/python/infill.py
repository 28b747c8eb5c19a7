"""Whether the mask tokens of a prompt are meant to be filled in."""

from __future__ import annotations

from ptgc.errors import UsageError
from ptgc.runtime.loaded import Loaded
from ptgc.runtime.request import Prompt, is_messages


def check_masks(prompt: Prompt, count: int, loaded: Loaded, *, infill: bool) -> None:
    """Check that mask tokens that a text spells are meant to be filled in.

    Args:
        prompt: What was given.
        count: Mask tokens among its ids.
        loaded: The build that will fill them in.
        infill: Whether that is asked for.

    Raises:
        UsageError: A text holds one unasked, there is none to fill in, or the bundle fills in none.
    """
    canvas = loaded.plan.canvas
    if canvas is None and infill:
        raise UsageError(
            f"infill is for canvases, which the strategy '{loaded.plan.strategy}' of this bundle does not fill.",
            "Leave it out.",
        )
    if canvas is None or (count > 0) is infill or not (isinstance(prompt, str) or is_messages(prompt) or infill):
        return
    codec = loaded.codec
    spelled = None if codec is None else codec.detokenizer.specials.get(canvas.mask_token_id)
    name = f"token {canvas.mask_token_id}" if spelled is None else f"'{spelled}'"
    if infill:
        raise UsageError(
            f"infill is asked for, and the prompt has no mask token, {name}.",
            "Put one where a token is to be filled in, or leave infill out to continue the prompt.",
        )
    raise UsageError(
        f"The prompt's text holds the mask token, {name}: it would be filled in instead of continued.",
        "Leave it out of the text, or ask for it: infill=True, --infill, or a prompt of token ids.",
    )
