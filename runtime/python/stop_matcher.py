"""Finds stop strings, which may contain special tokens, in a growing text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ptgc.runtime.detokenizer import Detokenizer, GrowingText


class StopMatcher:
    """Finds the first stop string in a growing text.

    Args:
        stops: The strings.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._longest = max((len(stop) for stop in self._stops), default=0)

    def __bool__(self) -> bool:
        return bool(self._stops)

    def find(self, text: str, searched: int = 0) -> int | None:
        """Where the earliest stop string starts; the first `searched` characters are known to contain none."""
        start = max(0, searched - self._longest + 1)
        found = [at for at in (text.find(stop, start) for stop in self._stops) if at >= 0]
        return min(found, default=None)

    def certain(self, text: str) -> int:
        """How much of the text can be shown: all except an end that may become a stop string."""
        for length in range(min(self._longest - 1, len(text)), 0, -1):
            tail = text[-length:]
            if any(stop.startswith(tail) for stop in self._stops):
                return len(text) - length
        return len(text)


@dataclass
class _SpelledText:
    """A text with its special tokens spelled out, and positions to map it to the text without them."""

    text: str = ""
    """The whole text."""
    spelled: list[tuple[int, int]] = field(default_factory=list)
    """Where each special token starts and ends."""

    def visible(self, at: int) -> int:
        """How many characters before `at` do not belong to special tokens."""
        return at - sum(max(0, min(end, at) - start) for start, end in self.spelled)


class StoppedText:
    """A text that grows until a stop string, which is not part of it.

    A stop string that contains a special token is searched in the text with special tokens spelled out; any other in
    the text as shown.

    Args:
        detokenizer: The detokenizer of the text's tokenizer.
        stops: The strings.
        context: The tokens before the text.
    """

    def __init__(self, detokenizer: Detokenizer, stops: Sequence[str], context: Sequence[int] = ()) -> None:
        special = [stop for stop in stops if any(token and token in stop for token in detokenizer.specials.values())]
        self._shown = StopMatcher([stop for stop in stops if stop not in special])
        self._spelled = StopMatcher(special)
        self._specials: Mapping[int, str] = detokenizer.specials if special else {}
        self._growing = GrowingText(detokenizer, context)
        self._with_specials = _SpelledText()
        self.stopped: str | None = None
        """The text before the stop string, once there is one."""

    def append(self, token_id: int) -> None:
        """Add a token, unless the text has stopped."""
        if self.stopped is not None:
            return
        searched = len(self._growing.text)
        added = self._growing.append([token_id])
        at = self._shown.find(self._growing.text, searched)
        if self._spelled:
            self._spell(token_id, added, at)
        elif at is not None:
            self.stopped = self._growing.text[:at]

    def finish(self) -> str:
        """The whole text, after its last token."""
        if self.stopped is None:
            searched = len(self._growing.text)
            text = self._growing.text + self._growing.rest()
            at = self._shown.find(text, searched)
            if at is None:
                return text
            self.stopped = text[:at]
        return self.stopped

    def shown_after(self, count: int) -> str:
        """The text after the first `count` characters that can be shown: nothing that may begin a stop string."""
        if self.stopped is not None:
            return self.stopped[count:]
        text, spelled = self._growing.text, self._with_specials
        certain = self._shown.certain(text)
        if self._spelled:
            certain = min(certain, spelled.visible(self._spelled.certain(spelled.text)))
        return text[count:certain]

    def _spell(self, token_id: int, added: str, shown_stop: int | None) -> None:
        """Search for stop strings with special tokens; of all stop strings found, the first counts."""
        spelled, token = self._with_specials, self._specials.get(token_id, "")
        searched = len(spelled.text)
        spelled.text += added
        rest = self._growing.rest() if token else ""  # uncertain, and before the special token all the same
        at = self._spelled.find(spelled.text + rest + token, searched)
        ends = [end for end in (shown_stop, None if at is None else spelled.visible(at)) if end is not None]
        if ends:
            self.stopped = (self._growing.text + rest)[: min(ends)]
        if token:
            start = len(spelled.text)
            spelled.text += token
            spelled.spelled.append((start, start + len(token)))


def ids_before(detokenizer: Detokenizer, ids: Sequence[int], text: str, context: Sequence[int] = ()) -> list[int]:
    """The fewest leading tokens whose text begins with `text`."""
    growing = GrowingText(detokenizer, context)
    for count, token_id in enumerate(ids):
        if (growing.text + growing.rest()).startswith(text):
            return list(ids[:count])
        growing.append([token_id])
    return list(ids)
