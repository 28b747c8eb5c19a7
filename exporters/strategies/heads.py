"""What the exporters of heads share: opening their checkpoint, and checking what it holds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from ptgc.errors import CheckpointError, ExportError
from ptgc.exporters.checkpoint.checkpoint import Checkpoint
from ptgc.exporters.checkpoint.config import read_settings
from ptgc.exporters.checkpoint.drafter_weights import open_heads, read_tensors, tensor_names
from ptgc.exporters.strategies.base import Note, Sources
from ptgc.exporters.strategies.causal import TappedExporter
from ptgc.spec.strategies.base import CheckpointFacts

CHOOSE = "Choose heads that were trained for this model."
MAX_HEADS = 64
"""Most heads, and most layers of a head, that a checkpoint may have."""


class HeadsExporter(TappedExporter):
    """A target, and heads that were trained for it."""

    files: Sequence[str] = ()
    """Names of weight files other than the usual ones."""

    @abstractmethod
    def own_names(self, names: Iterable[str]) -> dict[str, str]:
        """What the tensors that belong to the heads are called without a common prefix, by their full names."""

    @abstractmethod
    def num_heads(self, names: Iterable[str], settings: Mapping[str, Any]) -> int:
        """How many heads there are.

        Args:
            names: Of their tensors, without prefix.
            settings: Their config.json.

        Raises:
            CheckpointError: There are none, or too many.
        """

    @abstractmethod
    def heads(
        self, target: PreTrainedModel, tensors: Mapping[str, Tensor], settings: Mapping[str, Any], note: Note
    ) -> nn.Module:
        """The heads.

        Args:
            target: The model that they were trained for.
            tensors: By name, without prefix.
            settings: Their config.json.
            note: Called with remarks for the user.

        Raises:
            CheckpointError: Tensors are missing or of another shape; all of them are named.
            ExportError: They are heads of another target.
        """

    def open_others(self, options: Any, *, trust_remote_code: bool) -> dict[str, Checkpoint]:  # noqa: ARG002
        """The heads."""
        return {"heads": open_heads(options.heads, self.files)}

    def facts(self, sources: Sources, tokenizer: Any | None) -> CheckpointFacts:
        """How many heads there are."""
        checkpoint = sources.others["heads"]
        names = self.own_names(tensor_names(checkpoint)).values()
        count = self.num_heads(names, read_settings(checkpoint.directory))
        return replace(super().facts(sources, tokenizer), num_heads=count)

    def modules(self, sources: Sources, note: Note) -> dict[str, nn.Module]:
        """The target, and its heads."""
        found = super().modules(sources, note)
        target, checkpoint = found["target"], sources.others["heads"]
        assert isinstance(target, PreTrainedModel)
        names = self.own_names(tensor_names(checkpoint))
        read = read_tensors(checkpoint, names)
        tensors = {names[name]: tensor for name, tensor in read.items()}
        return found | {"heads": self.heads(target, tensors, read_settings(checkpoint.directory), note)}


def without_prefix(names: Iterable[str], prefixes: Sequence[str]) -> dict[str, str]:
    """Names without their prefix, by full name: those that have one, or all where none has."""
    given = list(names)
    found = {name: name.removeprefix(prefix) for prefix in prefixes for name in given if name.startswith(prefix)}
    return found or {name: name for name in given}


def checked_count(what: str, count: int) -> int:
    """A number of heads or layers that names of tensors or config.json imply.

    Raises:
        CheckpointError: There are none, or too many.
    """
    if not 0 < count <= MAX_HEADS:
        raise CheckpointError(f"The heads' checkpoint has {count} {what}; it must be from 1 to {MAX_HEADS}.", CHOOSE)
    return count


def stated(settings: Mapping[str, Any], *names: str) -> int:
    """The first of these numbers that config.json has; 0 if it has none."""
    found = [settings[name] for name in names if type(settings.get(name)) is int]
    return found[0] if found else 0


def check_sizes(
    target: PreTrainedModel, hidden_size: int, vocab_size: int | None = None, num_ids: int | None = None
) -> None:
    """Refuse heads that read other states or draft other tokens than the target's.

    Args:
        target: The model.
        hidden_size: Numbers of a state that they read.
        vocab_size: Tokens that they draft; None where the target's matrix says that.
        num_ids: How many tokens of the target they say that they draft; by default all.

    Raises:
        ExportError: Naming both sizes.
    """
    text = target.config.get_text_config()
    problems = []
    if hidden_size != text.hidden_size:
        problems.append(f"read states of {hidden_size} numbers, and the target's have {text.hidden_size}")
    if vocab_size is not None and vocab_size != (num_ids or text.vocab_size):
        said = f"the target has {text.vocab_size}" if num_ids is None else f"they name {num_ids}"
        problems.append(f"draft {vocab_size} tokens, and {said}")
    if problems:
        raise ExportError(f"The heads {'; they '.join(problems)}.", CHOOSE)


def matrix_size(tensors: Mapping[str, Tensor], name: str) -> tuple[int, int]:
    """The rows and columns of a matrix that every such checkpoint has.

    Raises:
        CheckpointError: It is missing, or no matrix.
    """
    if name not in tensors or tensors[name].ndim != 2:  # a matrix
        found = f"has {list(tensors[name].shape)} as" if name in tensors else "lacks"
        raise CheckpointError(f"The heads' checkpoint {found} the matrix {name}.", CHOOSE)
    rows, size = tensors[name].shape
    return rows, size
