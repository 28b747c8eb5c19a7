"""The generation settings of a checkpoint: which become defaults of the bundle, and which a note must name."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel

from ptgc.exporters.model_facts import eos_token_ids
from ptgc.spec.generation import GenerationDefaults

_LONGEST_VALUE = 80  # characters of a value in a note
_PENALTIES = (0.01, 100.0)  # what the runtime accepts

_Effective = Callable[[Any], bool]


def _is_given(_value: Any) -> bool:
    return True


def _is_above(least: float) -> _Effective:
    return lambda value: value > least


def _is_not(neutral: Any) -> _Effective:
    return lambda value: value != neutral


# Settings of transformers that change greedy text and have no counterpart here, each with a test of whether its value
# has an effect. Those that the newest version dropped are still found in checkpoints.
_NOT_APPLIED: Mapping[str, _Effective] = {
    "num_beams": _is_above(1),
    "num_return_sequences": _is_above(1),
    "no_repeat_ngram_size": _is_above(0),
    "encoder_no_repeat_ngram_size": _is_above(0),
    "encoder_repetition_penalty": _is_not(1),
    "forced_bos_token_id": _is_given,
    "forced_eos_token_id": _is_given,
    "forced_decoder_ids": _is_given,
    "force_words_ids": _is_given,
    "constraints": _is_given,
    "begin_suppress_tokens": bool,
    "sequence_bias": bool,
    "min_length": _is_above(0),
    "min_new_tokens": _is_above(0),
    "max_length": _is_not(20),
    "max_new_tokens": _is_given,
    "max_time": _is_given,
    "stop_strings": bool,
    "exponential_decay_length_penalty": _is_given,
    "guidance_scale": _is_not(1),
    "penalty_alpha": bool,
    "dola_layers": _is_given,
    "token_healing": bool,
    "watermarking_config": _is_given,
    "remove_invalid_values": bool,
    "cache_implementation": lambda value: value == "quantized",
}
_OF_BEAMS: Mapping[str, _Effective] = {
    "length_penalty": _is_not(1),
    "early_stopping": bool,
    "num_beam_groups": _is_above(1),
    "diversity_penalty": _is_not(0),
}
_OF_SAMPLING: Mapping[str, _Effective] = {
    "typical_p": _is_not(1),
    "epsilon_cutoff": _is_not(0),
    "eta_cutoff": _is_not(0),
    "top_h": _is_given,
}
_FLAGS: Mapping[str, _Effective] = {
    "temperature": _is_given,
    "top_k": _is_above(0),
    "top_p": _is_not(1),
    "min_p": _is_not(0),
}
_SAMPLED_BY_DEFAULT = {"temperature": 1.0, "top_k": 50}  # transformers' defaults for sampling


@dataclass(frozen=True)
class GenerationSettings:
    """A checkpoint's settings, divided into what applies and what does not."""

    defaults: GenerationDefaults
    """What the bundle applies."""
    notes: tuple[str, ...]
    """Remarks for the user about the rest."""


def generation_settings(model: PreTrainedModel) -> GenerationSettings:
    """Divide the settings of a model into defaults and notes."""
    settings = _settings_of(model)
    vocab_size = int(model.config.get_text_config(decoder=True).vocab_size)
    rest = dict(settings)
    defaults = GenerationDefaults(
        repetition_penalty=_penalty(rest), suppressed_token_ids=_suppressed(rest, eos_token_ids(model), vocab_size)
    )
    samples = bool(settings.get("do_sample"))
    effects = {**_NOT_APPLIED, **dict.fromkeys(("repetition_penalty", "bad_words_ids"), _is_given)}
    if _has_effect(settings, "num_beams", _NOT_APPLIED["num_beams"]):
        effects |= _OF_BEAMS
    if samples:
        effects |= _OF_SAMPLING
    named = [_spell(name, rest[name]) for name, effect in effects.items() if _has_effect(rest, name, effect)]
    notes = []
    if named:
        notes.append(
            f"the checkpoint's generation settings ask for {', '.join(named)}, which is not applied; the text may "
            "differ from that of transformers."
        )
    flags = _sampling_flags(settings, samples=samples)
    if flags:
        notes.append(f"the checkpoint recommends sampling, and the default here is greedy text; to sample: {flags}")
    return GenerationSettings(defaults, tuple(notes))


def _settings_of(model: PreTrainedModel) -> dict[str, Any]:
    """The settings that have a value; a model with its own code may have none."""
    found = getattr(model, "generation_config", None)
    values: dict[str, Any] = vars(found) if found is not None else {}
    return {name: value for name, value in values.items() if value is not None and not name.startswith("_")}


def _penalty(rest: dict[str, Any]) -> float:
    """Take the repetition penalty out of the settings, if the runtime can apply it."""
    low, high = _PENALTIES
    value = rest.get("repetition_penalty", 1.0)
    if not isinstance(value, int | float) or not low <= value <= high:
        return 1.0
    rest.pop("repetition_penalty", None)
    return float(value)


def _suppressed(rest: dict[str, Any], eos: tuple[int, ...], vocab_size: int) -> tuple[int, ...]:
    """Take the suppressed single tokens out of the settings; bad words of several tokens remain."""
    words = [list(word) for word in rest.pop("bad_words_ids", ())]
    words = [word for word in words if word not in [[token] for token in eos]]  # transformers keeps end tokens
    longer = [word for word in words if len(word) > 1]
    if longer:
        rest["bad_words_ids"] = longer
    found = {*rest.pop("suppress_tokens", ()), *(word[0] for word in words if len(word) == 1)}
    return tuple(sorted(int(token) for token in found if 0 <= token < vocab_size))


def _sampling_flags(settings: Mapping[str, Any], *, samples: bool) -> str:
    """The options of `ptgc run` for the sampling that the checkpoint recommends; empty if there is none."""
    if settings.get("do_sample") is False:
        return ""
    values = (_SAMPLED_BY_DEFAULT if samples else {}) | {k: settings[k] for k in _FLAGS if k in settings}
    used = {name: values[name] for name, effect in _FLAGS.items() if _has_effect(values, name, effect)}
    if not samples and used.keys() <= {"temperature", "top_k"} and used.get("temperature", 1.0) == 1.0:
        return ""  # older versions of transformers wrote these into every checkpoint
    return " ".join(f"--{name.replace('_', '-')} {value:g}" for name, value in used.items())


def _has_effect(settings: Mapping[str, Any], name: str, effect: _Effective) -> bool:
    return settings.get(name) is not None and effect(settings[name])


def _spell(name: str, value: Any) -> str:
    """The setting as JSON, shortened if it is long."""
    text = json.dumps(value, default=str)
    return f"{name}={text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + '...'}"
