"""Chat templates have the same names and features as in transformers, within limits of time and memory."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

from ptgc.errors import BundleError, PtgcError, UsageError
from ptgc.runtime.chat_template import ChatOptions, plain_data
from ptgc.runtime.text import TextCodec
from tests import tokenizers

_TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
_PROMPT = _TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
_TRIMMED = "{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}[end]{% endfor %}"
_USER = {"role": "user", "content": "Hi é <b>"}
_CHAT = [_USER, {"role": "assistant", "content": "Yes?"}, {"role": "user", "content": "Go on"}]
_TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
_CALLS = [
    _USER,
    {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1.5}}}]},
    {"role": "tool", "content": "5", "name": None},
]
_THOUGHT = [_USER, {"role": "assistant", "content": "a", "reasoning": "r"}]
_PREFILL = [_USER, {"role": "assistant", "content": "It is "}]
_PARTS = [{"role": "user", "content": [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo "}]}]
_PARTS_OF = "{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}[end]{% endfor %}"
_TABLE: dict[str, tuple[str, list[Any], dict[str, Any]]] = {
    "date": ("{{ strftime_now('%Y') }}\n" + _TURNS, _CHAT, {}),
    "generation": (
        "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}|\n{% endfor %}",
        _CHAT,
        {},
    ),
    "generation with dashes": ("{%- generation -%} a {%- endgeneration -%} b", _CHAT, {}),
    "break": ("{% for m in messages %}{% if loop.index == 2 %}{% break %}{% endif %}x{% endfor %}", _CHAT, {}),
    "trimmed blocks": ("  {% if true %}\n  x\n  {% endif %}\n y", _CHAT, {}),
    "tojson": ("{{ messages | tojson }}", _CHAT, {}),
    "tojson ascii": ("{{ messages | tojson(ensure_ascii=True) }}", _CHAT, {}),
    "tojson indent": ("{{ messages | tojson(indent=2) }}", _CHAT, {}),
    "tojson separators": ("{{ messages | tojson(separators=(',', ':')) }}", _CHAT, {}),
    "tojson sorted": ("{{ messages | tojson(sort_keys=True) }}", _CHAT, {}),
    "tools none": ("{% if tools is none %}none{% endif %}{{ tools is defined }}" + _TURNS, _CHAT, {}),
    "tools": ("{{ tools | tojson }}" + _TURNS, _CHAT, {"tools": [_TOOL]}),
    "documents none": ("{% if documents is none %}none{% endif %}", _CHAT, {}),
    "documents": (
        "{% for d in documents %}{{ d.title }}: {{ d.text }}{% endfor %}",
        _CHAT,
        {"documents": [{"title": "t", "text": "x"}]},
    ),
    "content null": (_TURNS, _CALLS, {}),
    "keys of null are absent": ("{{ messages[2] | tojson }}{{ 'content' in messages[1] }}", _CALLS, {}),
    "reasoning": ("{% for m in messages %}{{ m.reasoning_content }}{{ m.thinking }}{% endfor %}", _THOUGHT, {}),
    "content in parts": (_PARTS_OF, _PARTS, {}),
    "namespace": (
        "{% set ns = namespace(n=0) %}{% for m in messages %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}",
        _CHAT,
        {},
    ),
    "dict": ("{{ dict(a=1).a }}", _CHAT, {}),
    "special tokens": ("{{ bos_token }}{{ eos_token }}{{ pad_token }}", _CHAT, {}),
    "generation prompt": (_PROMPT, _CHAT, {}),
    "no generation prompt": (_PROMPT, _CHAT, {"add_generation_prompt": False}),
    "argument": ("{{ enable_thinking }}{{ bos_token }}", _CHAT, {"enable_thinking": False, "bos_token": "B"}),
    "no argument": ("{{ enable_thinking is defined }}", _CHAT, {}),
    "continued": (_PROMPT, _PREFILL, {"continue_final_message": True}),
    "continued and trimmed": (_TRIMMED, _PREFILL, {"continue_final_message": True}),
    "continued in parts": (_PARTS_OF, _PARTS, {"continue_final_message": True}),
}
_OPTIONS = {"tools", "documents", "add_generation_prompt", "continue_final_message"}


def _codec(folder: Path, template: Any) -> tuple[TextCodec, Any]:
    """Our tokenizer with a template and transformers'."""
    tokenizer = tokenizers.fast(tokenizers.byte_level(), eos_token="<|im_end|>", chat_template=template)
    tokenizer.save_pretrained(folder)
    return tokenizers.codec(folder), tokenizer


def _options(given: dict[str, Any]) -> ChatOptions:
    arguments = {name: value for name, value in given.items() if name not in _OPTIONS}
    return ChatOptions(
        **{name: value for name, value in given.items() if name in _OPTIONS}, template_arguments=arguments
    )


def test_templates_are_rendered_as_transformers_does(tmp_path: Path) -> None:
    for number, (name, (template, messages, options)) in enumerate(_TABLE.items()):
        codec, tokenizer = _codec(tmp_path / str(number), template)
        prompts = {"add_generation_prompt": not options.get("continue_final_message", False)}
        expected = tokenizer.apply_chat_template(messages, tokenize=False, **{**prompts, **options})
        assert codec.render(messages, _options(options)) == expected, name


@pytest.mark.parametrize("in_files", [True, False])
def test_one_of_several_templates_is_chosen_by_tools_or_by_name(tmp_path: Path, in_files: bool) -> None:
    named = {"default": "plain", "tool_use": "tools", "rag": "rag"}
    tokenizer = tokenizers.fast(tokenizers.byte_level(), chat_template=named)
    tokenizer.save_pretrained(tmp_path, save_jinja_files=in_files)
    codec = tokenizers.codec(tmp_path)
    assert codec.render([_USER]) == "plain"
    assert codec.render([_USER], ChatOptions(tools=[_TOOL])) == "tools"
    assert codec.render([_USER], ChatOptions(chat_template="rag")) == "rag"
    with pytest.raises(UsageError, match="no chat template 'other'") as raised:
        codec.render([_USER], ChatOptions(chat_template="other"))
    assert "rag" in raised.value.action


_NESTED = "{% for i in range(100000) %}" * 4 + "{% endfor %}" * 4
_DOUBLING = "{% set ns = namespace(s='ab') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "error", "reason"),
    [
        (_NESTED, BundleError, "processor time"),
        ("{% for i in range(100000) %}{{ 'x' * 1000 }}{% endfor %}", BundleError, "characters"),
        ("{{ 'a' * 10 ** 11 }}", BundleError, "memory"),
        (_DOUBLING, BundleError, "memory|processor time"),
        ("{{ '{:>99999999999}'.format(1) }}", BundleError, "memory"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", BundleError, "without end"),
        ("{{ range(10 ** 9) }}", BundleError, "Range too big"),
        ("{% for %}", BundleError, "damaged"),
        ("{{ 1 / 0 }}", UsageError, "division by zero"),
        ("{{ messages[0].content + 1 }}", UsageError, "concatenate"),
        ("{{ messages[7].content }}", UsageError, "refuses"),
        ("{{ raise_exception('roles must alternate') }}", UsageError, "roles must alternate"),
        ("{{ ''.__class__.__mro__ }}", UsageError, "unsafe"),
        (None, UsageError, "no chat template"),
    ],
)
def test_a_template_that_fails_or_never_ends_is_an_error(
    tmp_path: Path, template: Any, error: type[PtgcError], reason: str
) -> None:
    codec, _ = _codec(tmp_path, template)
    with pytest.raises(error, match=reason):
        codec.render([_USER])


def test_after_an_endless_template_the_next_messages_are_rendered(tmp_path: Path) -> None:
    codec, _ = _codec(tmp_path, "{% if messages|length == 1 %}" + _NESTED + "{% endif %}done")
    with pytest.raises(BundleError):
        codec.render([_USER])
    assert codec.render(_CHAT) == "done"


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: [{"role": "user", "content": 5}], "message 0"),
        (lambda: [{"role": "user", "content": ["x"]}], "message 0"),
        (lambda: [_USER, {"role": "assistant"}], "message 1"),
        (lambda: [_USER, "x"], "not an object"),
        (list, "none"),
        (lambda: [_endless()], "without end"),
    ],
)
def test_malformed_messages_are_named(tmp_path: Path, make: Callable[[], Any], reason: str) -> None:
    codec, _ = _codec(tmp_path, _TURNS)
    with pytest.raises(UsageError, match=reason):
        codec.render(make())


def _endless() -> dict[str, Any]:
    message: dict[str, Any] = {"role": "user", "content": "x"}
    message["tool_calls"] = [message]
    return message


def test_a_template_sees_plain_data_alone(tmp_path: Path) -> None:
    codec, _ = _codec(tmp_path, "{{ messages[0].image }}{{ messages[0].content }}")
    assert codec.render([{"role": "user", "content": "a \ud83d b", "image": tmp_path}]).endswith("Path>a \ufffd b")


def test_options_that_exclude_each_other_are_refused() -> None:
    assert ChatOptions(add_generation_prompt=True, continue_final_message=True).problems()
    assert not ChatOptions(add_generation_prompt=False, continue_final_message=True).problems()


def test_enums_of_texts_are_their_values() -> None:
    class Role(str, Enum):
        USER = "user"

    assert plain_data([{"role": Role.USER, (1, 2): 3}]) == [{"role": "user", "<tuple>": 3}]
