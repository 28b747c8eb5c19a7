"""Weights for multi-token prediction that a checkpoint has beside its model's, in the layouts of their makers."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ptgc.errors import CheckpointError, ExportError
from ptgc.exporters.checkpoint.checkpoint import Checkpoint
from ptgc.exporters.checkpoint.config import read_settings
from ptgc.exporters.checkpoint.drafter_weights import read_tensors
from ptgc.exporters.checkpoint.safetensors_files import read_header

LAYER = "layer."
"""Where the tensors of a transformer layer belong; the others have the names of `MtpDrafter`'s parts, and `norm`."""
_PROJECTION = "fc.weight"  # by which a layout is recognised
_PARTS = (_PROJECTION, "embedding_norm.weight", "states_norm.weight")
_CONSTANTS = (".inv_freq",)  # in old checkpoints, read by nobody
_LISTED = 6
_COUNTS = ("num_nextn_predict_layers", "num_mtp_layers", "mtp_num_hidden_layers")
_OTHERS = "Choose another strategy, such as ngram, or the checkpoint as its makers published it."


@dataclass(frozen=True)
class MtpLayout:
    """Where one family's makers put these weights."""

    family: str
    """Who made it."""
    places: Mapping[str, str]
    """Where names with a prefix belong, the first that fits; `#` is the number of a layer, and nothing is a copy of a
    tensor of the target's."""
    has_norm: bool = True
    """Whether there is a norm before the head."""
    states_first: bool = False
    """Whether the projection reads the state before the embedding."""
    follows_target: bool = False
    """Whether the layers are numbered behind the target's."""

    def place(self, name: str, num_layers: int) -> tuple[int | None, str] | None:
        """The number of the layer of a tensor, and where it belongs; None if it belongs to no such layer.

        The number is None for what all layers share.

        Args:
            name: Of the tensor.
            num_layers: Of the target.
        """
        for prefix, place in self.places.items():
            match = re.match(re.escape(prefix).replace(re.escape("#"), r"(\d+)"), name)
            if match is not None:
                number = int(match.group(1)) - self._first(num_layers) if match.groups() else None
                return (number, place and place + name[match.end() :]) if number is None or number >= 0 else None
        return None

    def _first(self, num_layers: int) -> int:
        return num_layers if self.follows_target else 0

    def prefixes(self, num_layers: int, layer: int = 0) -> dict[str, str]:
        """Where names of a layer that begin so belong."""
        number = str(self._first(num_layers) + layer)
        return {prefix.replace("#", number): place for prefix, place in self.places.items()}

    def name(self, place: str, num_layers: int, layer: int = 0) -> str:
        """The name of what belongs to a place, in a layer."""
        head = place.split(".")[0] + "."
        prefix = next(prefix for prefix, one in self.prefixes(num_layers, layer).items() if one == head)
        return prefix + place.removeprefix(head)


LAYOUTS = (
    MtpLayout(
        "DeepSeek-V3, GLM-4.5",
        {
            "model.layers.#.embed_tokens.": "",
            "model.layers.#.shared_head.head.": "",
            "model.layers.#.enorm.": "embedding_norm.",
            "model.layers.#.hnorm.": "states_norm.",
            "model.layers.#.eh_proj.": "fc.",
            "model.layers.#.shared_head.norm.": "norm.",
            "model.layers.#.": LAYER,
        },
        follows_target=True,
    ),
    MtpLayout(
        "Qwen3-Next, Mellum",
        {
            "mtp.embed_tokens.": "",
            "mtp.lm_head.": "",
            "mtp.pre_fc_norm_embedding.": "embedding_norm.",
            "mtp.pre_fc_norm_hidden.": "states_norm.",
            "mtp.fc.": "fc.",
            "mtp.norm.": "norm.",
            "mtp.layers.#.": LAYER,
        },
    ),
    MtpLayout(
        "MiMo",
        {
            "model.mtp_layers.#.token_layernorm.": "embedding_norm.",
            "model.mtp_layers.#.hidden_layernorm.": "states_norm.",
            "model.mtp_layers.#.input_proj.": "fc.",
            "model.mtp_layers.#.final_layernorm.": "norm.",
            "model.mtp_layers.#.": LAYER,
        },
        states_first=True,
    ),
    MtpLayout(
        "ERNIE 4.5",
        {
            "model.mtp_emb_norm.#.": "embedding_norm.",
            "model.mtp_hidden_norm.#.": "states_norm.",
            "model.mtp_linear_proj.#.": "fc.",
            "model.mtp_block.#.": LAYER,
        },
        has_norm=False,
    ),
)


@dataclass(frozen=True)
class MtpWeights:
    """The weights of layers for multi-token prediction, still in their files."""

    checkpoint: Checkpoint
    """Where they are."""
    layout: MtpLayout
    """How they are named there."""
    layers: tuple[Mapping[str, str], ...]
    """Where the tensors of each layer belong, by name; nothing for copies of the target's."""
    prefixes: tuple[str, ...]
    """Beginnings of these names, and of none of the target's."""
    like: tuple[int, ...]
    """For each, the layer of the target whose tensors have the same names."""

    def read(self) -> list[dict[str, Tensor]]:
        """The tensors of each layer by where they belong."""
        wanted = frozenset(name for names in self.layers for name, place in names.items() if place)
        found = read_tensors(self.checkpoint, wanted)
        return [{place: found[name] for name, place in names.items() if place} for names in self.layers]


def find_mtp_weights(checkpoint: Checkpoint) -> MtpWeights:
    """Look for the weights of layers for multi-token prediction.

    Raises:
        ExportError: There are none.
        CheckpointError: Some are missing or have no place, all of which are named; or there are more or fewer layers
            than config.json says.
    """
    if checkpoint.gguf_file is not None or checkpoint.packed is not None:
        what = "a GGUF file" if checkpoint.gguf_file is not None else "quantised"
        raise ExportError(
            f"'{checkpoint.source}' is {what}; weights for multi-token prediction are read from safetensors that are "
            "not quantised.",
            "Give the checkpoint that it was made from.",
        )
    names = [name for file in checkpoint.weight_files for name in read_header(file).tensors]
    names = [name for name in names if not name.endswith(_CONSTANTS)]
    config = checkpoint.config.get_text_config(decoder=True)
    total: int = config.num_hidden_layers
    layout = next((one for one in LAYOUTS if one.name(_PROJECTION, total) in names), None)
    if layout is None:
        raise _none_found(checkpoint, total)
    placed = {name: place for name in names if (place := layout.place(name, total)) is not None}
    count = 1 + max((number for number, _ in placed.values() if number is not None), default=0)
    layers = tuple(
        {name: place for name, (number, place) in placed.items() if number in (None, layer)} for layer in range(count)
    )
    kinds = getattr(config, "layer_types", None) or [""] * total
    like = tuple(_like(names, found, kinds) for found in layers)
    _check_complete(layout, layers, [_layer_names(names, one) for one in like], total)
    said = _said(checkpoint)
    if said is not None and said[1] != count:
        raise CheckpointError(
            f"'{checkpoint.source}' has weights of {count} layers for multi-token prediction; its config.json says "
            f"{said[0]} {said[1]}.",
            "Download the checkpoint again, or choose another strategy.",
        )
    prefixes = {prefix for layer in range(count) for prefix in layout.prefixes(total, layer)}
    return MtpWeights(checkpoint, layout, layers, tuple(sorted(prefixes)), like)


def _said(checkpoint: Checkpoint) -> tuple[str, int] | None:
    """How many such layers config.json says there are, and under which name."""
    settings = read_settings(checkpoint.directory)
    settings |= settings.get("text_config") or {}
    return next(((name, settings[name]) for name in _COUNTS if settings.get(name)), None)


def _none_found(checkpoint: Checkpoint, total: int) -> ExportError:
    wanted = ", ".join(f"{layout.name(_PROJECTION, total)} ({layout.family})" for layout in LAYOUTS)
    said = _said(checkpoint)
    though = f" Its config.json says {said[0]} {said[1]}: the copy may have been saved without them." if said else ""
    return ExportError(
        f"'{checkpoint.source}' has no weights for multi-token prediction; it has none of {wanted}.{though}", _OTHERS
    )


def _layer_names(names: Collection[str], layer: int) -> set[str]:
    prefix = f"model.layers.{layer}."
    return {name.removeprefix(prefix) for name in names if name.startswith(prefix)}


def _like(names: Collection[str], found: Mapping[str, str], layer_types: list[str]) -> int:
    """The target's layer with most of a layer's tensors; of several, the last with full attention, or just the last."""
    own = {place.removeprefix(LAYER) for place in found.values() if place.startswith(LAYER)}

    def rank(layer: int) -> tuple[int, bool, int]:
        return -len(own ^ _layer_names(names, layer)), layer_types[layer] == "full_attention", layer

    return max(range(len(layer_types)), key=rank)


def _check_complete(
    layout: MtpLayout, layers: Sequence[Mapping[str, str]], wanted: Sequence[Collection[str]], total: int
) -> None:
    """Compare the names of tensors with those of layers of the target.

    Raises:
        CheckpointError: They differ.
    """
    norm = ("norm.weight",) if layout.has_norm else ()
    named: dict[str, set[str]] = {"missing": set(), "unexpected": set()}
    for layer, (found, names) in enumerate(zip(layers, wanted, strict=True)):
        needed = {*_PARTS, *norm, *(f"{LAYER}{name}" for name in names)}
        given = {place for place in found.values() if place}
        named["missing"] |= {layout.name(place, total, layer) for place in needed - given}
        named["unexpected"] |= {layout.name(place, total, layer) for place in given - needed}
    problems = []
    for kind, some in named.items():
        if some:
            more = f" and {len(some) - _LISTED} more" if len(some) > _LISTED else ""
            problems.append(f"{kind}: {', '.join(sorted(some)[:_LISTED])}{more}")
    if problems:
        which = "one layer" if len(layers) == 1 else f"{len(layers)} layers"
        raise CheckpointError(
            f"The weights for multi-token prediction are not those of {which} of this model; {'; '.join(problems)}.",
            "Download the checkpoint again, or choose another strategy.",
        )
