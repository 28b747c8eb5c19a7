"""dflash: checkpoints of DFlash drafters, in the layouts of z-lab, speculators and transformers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, Qwen3Config

from ptgc.errors import CheckpointError, ExportError
from ptgc.exporters.checkpoint.checkpoint import Checkpoint
from ptgc.exporters.checkpoint.drafter_weights import drafted_ids, open_drafter, read_tensors
from ptgc.exporters.modules.dflash import DFlashDrafter, StateProjection
from ptgc.exporters.modules.tap import Tap
from ptgc.exporters.strategies.base import Note, Sources
from ptgc.exporters.strategies.causal import TappedExporter
from ptgc.exporters.strategies.eagle import load_drafter
from ptgc.spec.strategies.base import CheckpointFacts

_CHOOSE = "Choose a drafter that was trained for this model."
_SETTINGS = ("block_size", "mask_token_id", "target_layer_ids")
_MUSE = "muse_glimmer_assistant"
_CAUSAL = "causal_layers"  # in which the rows of a block see no later ones
_AUXILIARY = "aux_hidden_state_layer_ids"  # what speculators reads: states by number, the embedding being 0
_NESTED = "dflash_config"  # where z-lab has them; transformers and some of z-lab's have them at the top
_UNKNOWN = {
    "input_embedding_scale": 1.0,
    "output_multiplier": 1.0,
    "final_logit_softcapping": None,
    "sample_from_anchor": False,
}
"""Settings that change what is computed, with the values that change nothing."""
_PLACES = {
    "fc.": "tap.project.fc.",
    "hidden_norm.": "tap.project.hidden_norm.",
    "encoder.fc.": "tap.project.fc.",
    "encoder.output_norm_enc.": "tap.project.hidden_norm.",
    "layers.": "model.layers.",
    "norm.": "model.norm.",
    "embed_tokens.": "model.embed_tokens.",
}
_IGNORED = ("t2d", "d2t", "verifier_norm.weight", "verifier_lm_head.weight")


@dataclass(frozen=True)
class DflashSettings:
    """What a drafter's config.json says besides the form of its layers."""

    block_size: int
    """Rows of a block: the last token of the text, and mask tokens."""
    mask_token_id: int
    """The token that stands for a draft."""
    target_layer_ids: tuple[int, ...]
    """Layers of the target whose output it reads."""


def _layers_of(**settings: Any) -> Qwen3Config:
    """The form of a drafter's layers, whose windows count the row's own token, as a Qwen3's do."""
    is_muse = settings.get("model_type") == _MUSE
    slides = "sliding_attention" in (settings.get("layer_types") or ())
    is_causal = settings.pop("is_causal", None)
    if slides:
        settings |= {"use_sliding_window": True, "sliding_window": settings["sliding_window"] + int(is_muse)}
    config = Qwen3Config(**settings)
    setattr(config, _CAUSAL, () if is_muse else _causal_layers(config, is_causal))
    return config


def _causal_layers(config: Qwen3Config, is_causal: bool | None) -> tuple[int, ...]:
    """The layers in which the rows of a block see no later ones: if nothing else is said, those with windows."""
    given = getattr(config, _NESTED, None)
    nested = given if isinstance(given, dict) else {}
    said = next((one for one in (is_causal, nested.get("is_causal"), nested.get("causal")) if one is not None), None)
    if said is not None:
        return tuple(range(config.num_hidden_layers)) if said else ()
    if getattr(config, "sliding_window_non_causal", False):  # speculators
        return ()
    return tuple(index for index, kind in enumerate(config.layer_types or ()) if kind == "sliding_attention")


class DflashExporter(TappedExporter):
    """A target, and a DFlash drafter that was trained for it."""

    def open_others(self, options: Any, *, trust_remote_code: bool) -> dict[str, Checkpoint]:  # noqa: ARG002
        """The drafter."""
        opened = open_drafter(options.drafter, _layers_of)
        read_dflash_settings(opened)
        return {"drafter": opened}

    def facts(self, sources: Sources, tokenizer: Any | None) -> CheckpointFacts:  # noqa: ARG002
        """The block and the mask token of the drafter."""
        settings = read_dflash_settings(sources.others["drafter"])
        return CheckpointFacts(mask_token_id=settings.mask_token_id, block_size=settings.block_size)

    def modules(self, sources: Sources, note: Note) -> dict[str, nn.Module]:
        """The target, and its drafter."""
        found = super().modules(sources, note)
        target = found["target"]
        assert isinstance(target, PreTrainedModel)
        head = sources.others["drafter"]
        assert isinstance(head.config, Qwen3Config)
        made = dflash_drafter(target, head.config, read_dflash_settings(head), read_tensors(head))
        return found | {"drafter": made}


def read_dflash_settings(drafter: Checkpoint) -> DflashSettings:
    """The settings of a drafter's checkpoint.

    Raises:
        CheckpointError: Some are missing or make no sense; all of them are named.
    """
    nested = getattr(drafter.config, _NESTED, None)
    nested = nested if isinstance(nested, dict) else {}
    found: dict[str, Any] = {
        name: nested.get(name, getattr(drafter.config, name, None)) for name in (*_SETTINGS, *_UNKNOWN)
    }
    auxiliary: Any = getattr(drafter.config, _AUXILIARY, None)
    if found["target_layer_ids"] is None and auxiliary is not None:
        found |= {"target_layer_ids": [one - 1 for one in auxiliary] if _are_ids(auxiliary) else auxiliary}
    layers: Any = found["target_layer_ids"]
    problems = [f"it has no {name}" for name in _SETTINGS if found[name] is None]
    if layers is not None and (not _are_ids(layers) or list(layers) != sorted(set(layers))):
        problems.append(f"target_layer_ids is {layers!r}; it must be a list of layers, ascending")
    least = {"block_size": 2, "mask_token_id": 0}
    for name, smallest in least.items():
        value = found[name]
        if value is not None and (type(value) is not int or value < smallest):
            problems.append(f"{name} is {value!r}; it must be an integer of at least {smallest}")
    problems += [
        f"{name} is {found[name]!r}, which is not supported"
        for name, harmless in _UNKNOWN.items()
        if found[name] not in (None, harmless)
    ]
    if problems:
        raise CheckpointError(
            f"The config.json of the drafter '{drafter.source}' is not that of a DFlash drafter that can be exported: "
            f"{'; '.join(problems)}.",
            "Give a DFlash drafter, such as z-lab/Qwen3-4B-DFlash-b16.",
        )
    assert layers is not None  # see above
    return DflashSettings(found["block_size"], found["mask_token_id"], tuple(layers))


def _are_ids(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(type(one) is int and one >= 0 for one in value)


def dflash_drafter(
    target: PreTrainedModel, config: Qwen3Config, settings: DflashSettings, tensors: Mapping[str, Tensor]
) -> DFlashDrafter:
    """The drafter that weights of a public layout are.

    Args:
        target: The model that it was trained for, whose embedding and head it shares where it has none.
        config: Of its layers.
        settings: The block, and what it reads of the target.
        tensors: `fc.weight`, `hidden_norm.weight` (or both as `encoder.fc.weight`, `encoder.output_norm_enc.weight`),
            `layers.*`, `norm.weight`; perhaps `embed_tokens.weight`, `lm_head.weight` (copies of the target's are
            not stored again), and `d2t` where it drafts fewer tokens than the target has: what is to be added to a
            drafted id.

    Raises:
        CheckpointError: Tensors are missing or of another shape; all of them are named.
        ExportError: They are a drafter of another target.
    """
    text = target.config.get_text_config()
    embedded = target.get_input_embeddings()
    given_head = target.get_output_embeddings()  # type: ignore[no-untyped-call]  # not annotated
    assert isinstance(embedded, nn.Embedding) and isinstance(given_head, nn.Linear)
    _check_sizes(config, settings, text)
    originals = {"embed_tokens.weight": embedded.weight, "lm_head.weight": given_head.weight}
    copies = {name for name, weight in originals.items() if name in tensors and _is_copy(tensors[name], weight)}
    copies -= {"lm_head.weight"} if "d2t" in tensors else set()
    tensors = {name: one for name, one in tensors.items() if name not in copies}
    taps = tuple(layer + 1 for layer in settings.target_layer_ids)
    project = StateProjection(len(taps) * text.hidden_size, config.hidden_size, config.rms_norm_eps)
    config.vocab_size = text.vocab_size
    config.tie_word_embeddings = False
    shared = {"lm_head.", "model.embed_tokens."}
    if "embed_tokens.weight" in tensors:
        embedded = nn.Embedding(text.vocab_size, config.hidden_size)
        shared.discard("model.embed_tokens.")
    head, ids = _head(tensors, given_head, text.vocab_size)
    if "lm_head.weight" in tensors:
        shared.discard("lm_head.")
    norms = any(name.endswith("q_norm.weight") for name in tensors)
    causal: tuple[int, ...] = getattr(config, _CAUSAL, ())
    drafter = DFlashDrafter(config, Tap(taps, project), embedded, head, ids, has_head_norms=norms, causal_layers=causal)
    given = {_place(name): tensor for name, tensor in tensors.items() if name not in _IGNORED}
    load_drafter(drafter, given, target.dtype, tuple(shared))
    return drafter


def _is_copy(own: Tensor, original: Tensor) -> bool:
    return own.shape == original.shape and torch.equal(own.to(original.dtype), original)


def _check_sizes(config: Qwen3Config, settings: DflashSettings, text: Any) -> None:
    """Refuse a drafter whose sizes are not the target's.

    Raises:
        ExportError: With every difference.
    """
    problems = []
    if config.hidden_size != text.hidden_size:
        problems.append(f"its hidden size is {config.hidden_size}, the target's {text.hidden_size}")
    if settings.mask_token_id >= text.vocab_size:
        problems.append(f"its mask token is {settings.mask_token_id}; the target has {text.vocab_size} tokens")
    if settings.target_layer_ids[-1] >= text.num_hidden_layers:
        listed = list(settings.target_layer_ids)
        problems.append(f"it reads the layers {listed}; the target has {text.num_hidden_layers}")
    layers = getattr(config, "num_target_layers", None)
    if layers not in (None, text.num_hidden_layers):
        problems.append(f"it was made for a target of {layers} layers, this one has {text.num_hidden_layers}")
    if problems:
        raise ExportError(f"The drafter was not made for this target: {'; '.join(problems)}.", _CHOOSE)


def _head(tensors: Mapping[str, Tensor], given: nn.Linear, vocab_size: int) -> tuple[nn.Linear, list[int] | None]:
    """What gives logits, and of which tokens: the target's head, rows of it, or the drafter's own."""
    own = tensors.get("lm_head.weight")
    if own is None and "d2t" not in tensors:
        return given, None
    ids = drafted_ids(tensors, len(own if own is not None else tensors["d2t"]), vocab_size)
    head = nn.Linear(given.in_features, len(ids), bias=own is None and given.bias is not None)
    if own is None:
        chosen = torch.tensor(ids)
        head.weight = nn.Parameter(given.weight.detach()[chosen], requires_grad=False)
        if given.bias is not None:
            head.bias = nn.Parameter(given.bias.detach()[chosen], requires_grad=False)
    return head, None if ids == list(range(vocab_size)) else ids


def _place(name: str) -> str:
    """Where a tensor of the public layouts belongs."""
    for prefix, place in _PLACES.items():
        if name.startswith(prefix):
            return place + name.removeprefix(prefix)
    return name


EXPORTER = DflashExporter()
