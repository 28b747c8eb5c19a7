"""The page of a text that was drafted and verified: which round wrote which tokens, and what it cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

from ptgc.report.page import bar, figures, page, shown, table
from ptgc.runtime.results import DraftCount, GenerationResult, RoundTrace

Read = Callable[[int], str]
"""The text of one token."""

_PHASES = {
    "target": "verifying: the target's engine",
    "draft": "drafting, with the drafter's engine",
    "accept": "choosing tokens, accepting drafts",
    "commit": "moving what was accepted",
}


def rounds_page(
    result: GenerationResult, pieces: Sequence[str], read: Read, prompt: str = "", drafters: Sequence[str] = ()
) -> str:
    """A self-contained page of HTML.

    Args:
        result: A text with its trace.
        pieces: What each of its tokens added to the text.
        read: The text of a token on its own, for drafts.
        prompt: The prompt as text; empty leaves it out.
        drafters: Names of the drafters that are merged, if there are several.
    """
    writing = [one for one in result.trace if one.emitted_ids]
    stats = result.statistics
    summary = [
        (str(stats.new_tokens), "new tokens"),
        (f"{stats.tokens_per_second:.1f}", "tokens per second"),
        (f"{stats.mean_accept_length:.2f}", "tokens per round"),
        (str(stats.rounds), "rounds"),
        (f"{stats.accepted_tokens} of {stats.drafted_tokens}", "drafts accepted"),
        ("yes" if result.lossless else "no", "lossless"),
        (result.finish_reason, "end"),
    ]
    if stats.ahead_tokens:
        summary.insert(5, (f"{stats.ahead_used_tokens} of {stats.ahead_tokens}", "drafts made ahead used"))
    sections = [
        (f"Build {result.build}", figures(summary)),
        ("Text", _text(writing, pieces, prompt, drafters)),
        ("Where decoding time goes", _times(result)),
    ]
    if stats.draft_counts:
        sections.append(("How drafts fared", _counts(stats.draft_counts)))
    sections.append(("Rounds", _rounds(writing, read, drafters)))
    return page(f"{result.strategy}: {stats.new_tokens} tokens in {len(writing)} rounds", sections)


def _text(writing: Sequence[RoundTrace], pieces: Sequence[str], prompt: str, drafters: Sequence[str]) -> str:
    """The text, token by token; a link leads to the round that wrote it."""
    spans = [f'<span class="prompt">{escape(prompt)}</span>'] if prompt else []
    rest = iter(pieces)
    for number, one in enumerate(writing, 1):
        for depth, piece in zip(range(1, len(one.emitted_ids) + 1), rest, strict=False):
            is_draft = depth <= one.accepted
            told = (
                f"round {number}, draft of depth {depth}{_by(one, drafters)}"
                if is_draft
                else f"round {number}, the target's own token"
            )
            kind = f'class="draft" style="--depth:{min(depth, 8)}"' if is_draft else 'class="own"'
            spans.append(f'<a {kind} href="#round-{number}" title="{told}">{escape(piece)}</a>')
    legend = (
        "<p>Shaded tokens were drafts, the darker the further ahead of the target; underlined ones are the target's "
        "own. A token leads to its round.</p>"
    )
    return f'{legend}<div class="text">{"".join(spans)}</div>'


def _times(result: GenerationResult) -> str:
    """Decoding time by phase."""
    stats = result.statistics
    phases = _phases(stats.decode_seconds, stats.draft_seconds, stats.accept_seconds, stats.commit_seconds)
    total = sum(phases.values()) or 1.0
    rows = [
        (f'<span class="key c-{name}"></span>{escape(what)}', f"{phases[name]:.4f} s", f"{phases[name] / total:.1%}")
        for name, what in _PHASES.items()
    ]
    outside = max(0.0, 1 - stats.engine_seconds / total)
    note = f"<p>{outside:.1%} of it is outside of engines: drafts without a model, trees, sampling, copies.</p>"
    return bar(phases, total) + table(("", "time", "share"), rows) + note


def _phases(whole: float, draft: float, accept: float, commit: float) -> dict[str, float]:
    """Seconds by phase; verifying is what the others leave."""
    return {
        "target": max(0.0, whole - draft - accept - commit),
        "draft": draft,
        "accept": accept,
        "commit": commit,
    }


def _counts(counts: Sequence[DraftCount]) -> str:
    """Shares of accepted drafts, depth by depth and rank by rank."""
    ranks = sorted({one.rank for one in counts})
    by_place = {(one.depth, one.rank): one for one in counts}

    def cell(depth: int, rank: int) -> str:
        one = by_place.get((depth, rank))
        if one is None:
            return ""
        return f"{one.accepted / one.tried:.0%} of {one.tried}{bar({'accept': one.accepted}, one.tried)}"

    rows = [[str(depth), *(cell(depth, rank) for rank in ranks)] for depth in sorted({depth for depth, _ in by_place})]
    names = ["likeliest", *(f"number {rank + 1}" for rank in ranks[1:])]
    return "<p>Of the drafts whose parent was accepted.</p>" + table(("depth", *names), rows)


def _rounds(writing: Sequence[RoundTrace], read: Read, drafters: Sequence[str]) -> str:
    longest = max((one.round_seconds for one in writing), default=0.0) or 1.0
    rows = [
        (
            f'<span id="round-{number}">{number}</span>{_by(one, drafters) if one.drafted_ids else ""}',
            _tree(one, read),
            str(one.width),
            f"{one.round_seconds * 1e3:.1f} ms{bar(_phases_of(one), longest)}",
        )
        for number, one in enumerate(writing, 1)
    ]
    return table(("round", "drafts, and the target's own token", "rows", "time"), rows)


def _by(one: RoundTrace, drafters: Sequence[str]) -> str:
    """Which of several drafters made a round's drafts, and whether ahead of it."""
    made = f" by {escape(drafters[one.part])}" if len(drafters) > 1 else ""
    return f"{made}, made ahead" if one.is_ahead else made


def _phases_of(one: RoundTrace) -> dict[str, float]:
    return _phases(one.round_seconds, one.draft_seconds, one.accept_seconds, one.commit_seconds)


def _tree(one: RoundTrace, read: Read) -> str:
    """The drafts of a round: a chain in one line, a tree indented."""
    path = set(one.path[: one.accepted])
    own = "".join(f'<code class="own">{shown(read(token))}</code>' for token in one.emitted_ids[one.accepted :])

    def code(node: int) -> str:
        kind = "yes" if node in path else "no"
        return f'<code class="{kind}">{shown(read(one.drafted_ids[node - 1]))}</code>'

    if one.parents == list(range(len(one.parents))):
        accepted = "".join(code(node) for node in range(1, one.accepted + 1))
        rejected = "".join(code(node) for node in range(one.accepted + 1, len(one.parents) + 1))
        return f'<div class="tree">{accepted}{own} {rejected}</div>'
    return f'<div class="tree">{_branches(one.parents, 0, code)}{own}</div>'


def _branches(parents: Sequence[int], root: int, code: Callable[[int], str]) -> str:
    """The nodes below one; single children stay in its line."""
    children = [node for node, parent in enumerate(parents, 1) if parent == root]
    if not children:
        return ""
    if len(children) == 1:
        return code(children[0]) + _branches(parents, children[0], code)
    items = "".join(f"<li>{code(child)}{_branches(parents, child, code)}</li>" for child in children)
    return f"<ul>{items}</ul>"
