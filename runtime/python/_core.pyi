"""The C++ runtime: loads a build and runs its loop over token ids."""

from collections.abc import Callable, Mapping, Sequence
import os


class SamplingOptions:
    """How a token is chosen from logits."""

    def __init__(self, temperature: float = 0.0, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0, repetition_penalty: float = 1.0, presence_penalty: float = 0.0, frequency_penalty: float = 0.0, logit_bias: Mapping[int, float] = {}, seed: int = 0) -> None: ...

    @property
    def temperature(self) -> float:
        """0 for the largest logit."""

    @property
    def seed(self) -> int:
        """Equal seeds give equal texts."""

class Request:
    """One text to write."""

    def __init__(self, prompt_ids: Sequence[int], max_new_tokens: int, eos_token_ids: Sequence[int] = [], plain: bool = False, deadline_seconds: float = 0.0, trace: bool = False, sampling: SamplingOptions = ..., num_steps: int = 0, threshold: float | None = None) -> None: ...

    @property
    def prompt_ids(self) -> list[int]:
        """What to continue; in a session, what to add first."""

    @property
    def max_new_tokens(self) -> int:
        """Tokens to write at most."""

    @property
    def eos_token_ids(self) -> list[int]:
        """Any of them ends the text and is its last token."""

    @property
    def plain(self) -> bool:
        """Decode without drafts."""

    @property
    def deadline_seconds(self) -> float:
        """The text ends as it is after so long; 0 for never."""

    @property
    def trace(self) -> bool:
        """Keep what every round did."""

    @property
    def sampling(self) -> SamplingOptions:
        """How tokens are chosen."""

class DraftCount:
    """How drafts of one place in their trees fared."""

    @property
    def depth(self) -> int:
        """1 for a child of the root."""

    @property
    def rank(self) -> int:
        """Among its siblings, from 0."""

    @property
    def tried(self) -> int:
        """Drafts there whose parent was accepted."""

    @property
    def accepted(self) -> int:
        """How many of them were accepted."""

class Statistics:
    """What was done for one text and what it cost."""

    @property
    def prompt_tokens(self) -> int:
        """Tokens before the first new one."""

    @property
    def new_tokens(self) -> int:
        """Tokens written."""

    @property
    def rounds(self) -> int:
        """Rounds after the first new token."""

    @property
    def plain_rounds(self) -> int:
        """Those without draft tokens."""

    @property
    def fallback_reason(self) -> str | None:
        """Why drafts were mostly declined, if they were."""

    @property
    def drafted_tokens(self) -> int:
        """Draft tokens verified."""

    @property
    def accepted_tokens(self) -> int:
        """Draft tokens accepted."""

    @property
    def draft_counts(self) -> list[DraftCount]:
        """The same by depth and rank."""

    @property
    def ahead_tokens(self) -> int:
        """Draft tokens made while the target verified others."""

    @property
    def ahead_used_tokens(self) -> int:
        """How many of them were verified."""

    @property
    def mean_accept_length(self) -> float:
        """New tokens per round."""

    @property
    def load_seconds(self) -> float:
        """Opening the build."""

    @property
    def time_to_first_token(self) -> float:
        """From the call, waiting for a row included."""

    @property
    def prefill_seconds(self) -> float:
        """From the row's start to its first new token."""

    @property
    def decode_seconds(self) -> float:
        """From the first new token to the last."""

    @property
    def engine_seconds(self) -> float:
        """Inside engine calls, part of decode_seconds."""

    @property
    def draft_seconds(self) -> float:
        """Drafting, part of decode_seconds."""

    @property
    def accept_seconds(self) -> float:
        """Choosing tokens and accepting drafts, part of decode_seconds."""

    @property
    def commit_seconds(self) -> float:
        """Moving what was accepted, part of decode_seconds."""

    @property
    def tokens_per_second(self) -> float:
        """New tokens of decode rounds / decode_seconds."""

    @property
    def peak_memory_bytes(self) -> int:
        """Largest resident memory of the process so far."""

    @property
    def graph_launches(self) -> int:
        """
        Engine runs on a device that were one captured graph, in decode rounds.
        """

    @property
    def uncaptured_runs(self) -> int:
        """Those that were queued piece by piece."""

    @property
    def synchronisations(self) -> int:
        """Waits of the host for the device, in decode rounds."""

class TraceRound:
    """One round of one text."""

    @property
    def width(self) -> int:
        """Rows that the engine ran."""

    @property
    def drafted_ids(self) -> list[int]:
        """Draft tokens verified."""

    @property
    def part(self) -> int:
        """Which of merged drafters made them."""

    @property
    def is_ahead(self) -> bool:
        """Whether they were made during the round before."""

    @property
    def parents(self) -> list[int]:
        """The node that each of them follows; 0 is the root."""

    @property
    def path(self) -> list[int]:
        """The nodes that were accepted."""

    @property
    def accepted(self) -> int:
        """How many of them became text."""

    @property
    def filled_positions(self) -> list[int]:
        """Positions of a canvas that were filled."""

    @property
    def filled_ids(self) -> list[int]:
        """Their tokens."""

    @property
    def confidences(self) -> list[float]:
        """The probabilities of these."""

    @property
    def emitted_ids(self) -> list[int]:
        """New tokens; none while a prompt is being read."""

    @property
    def engine_seconds(self) -> float:
        """Inside engine calls."""

    @property
    def draft_seconds(self) -> float:
        """Drafting, engine calls included."""

    @property
    def accept_seconds(self) -> float:
        """Choosing tokens and accepting drafts."""

    @property
    def commit_seconds(self) -> float:
        """Moving what was accepted."""

    @property
    def round_seconds(self) -> float:
        """The whole round."""

class Result:
    """One text, written."""

    @property
    def token_ids(self) -> list[int]:
        """The new tokens."""

    @property
    def finish_reason(self) -> str:
        """eos, length, stop, cancelled or deadline."""

    @property
    def statistics(self) -> Statistics:
        """What was done and what it cost."""

    @property
    def trace(self) -> list[TraceRound]:
        """Round by round, where asked for."""

class Cancellation:
    """Ends the calls that it was given to."""

    def __init__(self) -> None: ...

    def cancel(self) -> None:
        """
        From any thread: their texts end as they are, also those that wait for a row.
        """

class Session:
    """Text that stays in the cache between calls."""

    def append(self, token_ids: Sequence[int]) -> None:
        """Adds a prompt or a part of one."""

    def generate(self, request: Request, on_tokens: Callable[[int, list[int]], bool | None] | None = None, cancellation: Cancellation | None = None, on_fills: Callable[[int, list[int], list[int]], None] | None = None) -> Result:
        """Continues the text, after adding the request's prompt, if any."""

    def rewind(self, count: int) -> None:
        """Drops the last tokens."""

    def fork(self) -> Session:
        """Another session with the same text; nothing of it is read again."""

    def reset(self) -> None:
        """Drops everything."""

    def cancel(self) -> None:
        """From any thread: ends the generation that is under way."""

    def close(self) -> None:
        """Gives the row back."""

    @property
    def tokens(self) -> list[int]:
        """Prompt and text."""

    @property
    def length(self) -> int:
        """Number of tokens."""

class Generator:
    """A loaded build; many threads may use one."""

    def __init__(self, build_directory: str | os.PathLike, num_threads: int = 0, library: str = '', costs: Mapping[str, Mapping[int, float]] = {}, draft_length: str = 'measured', num_draft_tokens: int = -1, tree: Sequence[int] | None = None, gains: Sequence[float] = [], acceptance: str | None = None, ngram_match: str | None = None, overlap: bool | None = None, tuned_overlap: bool | None = None, datastore: str = '', drafter: str = '', wait_seconds: float = -1.0, max_waiting: int = -1, to_drafter: object | None = None, to_target: object | None = None, verify: bool = False) -> None: ...

    def generate(self, requests: Sequence[Request], on_tokens: Callable[[int, list[int]], bool | None] | None = None, cancellation: Cancellation | None = None, on_fills: Callable[[int, list[int], list[int]], None] | None = None) -> list[Result]:
        """
        Writes any number of texts; `on_tokens(index, ids)` ends a text by returning False. `on_fills(index, positions, ids)` hears what a round filled into a canvas.
        """

    def session(self) -> Session:
        """Takes a free row."""

    def measure(self, num_tokens: int, num_logits: int, past_length: int, repeats: int, role: str = 'target') -> list[float]:
        """Seconds of each of `repeats` bare engine runs of a role."""

    def close(self) -> None:
        """Gives the engine's memory back."""

    @property
    def batch_size(self) -> int: ...

    @property
    def max_length(self) -> int: ...

    @property
    def context_length(self) -> int: ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def eos_token_ids(self) -> list[int]: ...

    @property
    def free_rows(self) -> int: ...

    @property
    def load_seconds(self) -> float: ...

    @property
    def engine_library_version(self) -> str: ...

class Datastore:
    """Texts as tokens, and where they occur, in a file."""

    def __init__(self, path: str | os.PathLike) -> None: ...

    def token(self, place: int) -> int:
        """The token at a place; -1 at a document's end."""

    @property
    def vocab_size(self) -> int: ...

    @property
    def num_tokens(self) -> int: ...

    @property
    def num_documents(self) -> int: ...

    @property
    def vocabulary_sha256(self) -> str: ...

class DatastoreWriter:
    """Makes a datastore."""

    def __init__(self, vocab_size: int, vocabulary_sha256: str) -> None: ...

    def append(self, token_ids: Sequence[int]) -> None:
        """Continues the document."""

    def end_document(self) -> None:
        """What follows is another document."""

    def write(self, path: str | os.PathLike) -> None:
        """Sorts, and writes the file."""

def available_processors() -> int:
    """Number of processors that this process may use."""

def device_fingerprint(device: str = 'cpu') -> str:
    """
    Names this kind of processor, and for cuda its GPU, safe as a file name.
    """

def cuda_device_name() -> str:
    """
    The first GPU of this machine; empty where there is none, or no driver.
    """

def end_calls() -> None:
    """
    Refuses all calls from now on, and ends and awaits those that are running.
    """

def is_inside_call() -> bool:
    """Whether this thread is in a callback of a call."""

def peak_memory_bytes() -> int:
    """Largest resident memory of the process so far."""

def kernels() -> str:
    """The instruction set of ptgc's own operators on this processor."""

def limits() -> dict[str, int]:
    """The largest numbers that a bundle's documents may hold."""

def enum_names() -> dict[str, list[str]]:
    """The spellings of every enum of the core, and the kinds of drafters."""
