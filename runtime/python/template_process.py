"""The process in which chat templates run, because a checkpoint's template may loop forever or take all memory.

It is started as a script with the import path as its argument, without the rest of the package. Requests come on stdin
as pickles preceded by their size (the caller is trusted). Answers go to stdout as JSON preceded by its size.
"""

from __future__ import annotations

import json
import pickle
import signal
import sys
from contextlib import suppress
from functools import lru_cache
from typing import IO, Any, NoReturn

MEMORY_BYTES = 1 << 30
"""Largest address space of this process."""
CPU_SECONDS = 2
"""Most processor time of one rendering."""
MOST_CHARACTERS = 16 << 20
"""Most characters of a rendered conversation."""


def main() -> None:
    """Answer requests until stdin ends."""
    sys.path[:] = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller handles Ctrl-C, and closes stdin
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    sys.stdout = sys.stderr
    _limit("RLIMIT_AS", MEMORY_BYTES)
    _limit("RLIMIT_CORE", 0)
    while request := read_block(requests):
        write_block(answers, json.dumps(_answer(pickle.loads(request))).encode())  # noqa: S301  # from our own caller


def read_block(stream: IO[bytes]) -> bytes:
    """The bytes that `write_block` wrote; empty at the end of the stream."""
    size = stream.read(8)
    return stream.read(int.from_bytes(size, "little")) if len(size) == 8 else b""


def write_block(stream: IO[bytes], content: bytes) -> None:
    """Write bytes preceded by their size."""
    stream.write(len(content).to_bytes(8, "little") + content)
    stream.flush()


def _answer(request: dict[str, Any]) -> dict[str, str]:
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    _limit("RLIMIT_CPU", int(used.ru_utime + used.ru_stime) + 1 + CPU_SECONDS)
    try:
        return {"text": _render(request["template"], request["variables"])}
    except MemoryError:
        return {"excess": f"it takes more than {MEMORY_BYTES >> 20} MB of memory"}
    except RecursionError:
        return {"excess": "it calls itself without end"}
    except OverflowError as error:
        return {"excess": str(error)}
    except _TooLongError:
        return {"excess": f"it writes more than {MOST_CHARACTERS} characters"}
    except Exception as error:  # noqa: BLE001  # a template can raise anything
        kind = "syntax" if type(error).__name__ == "TemplateSyntaxError" else "error"
        return {kind: str(error)[:1000] or type(error).__name__}


class _TooLongError(Exception):
    """A rendered conversation is too long."""


def _render(source: str, variables: dict[str, Any]) -> str:
    parts, size = [], 0
    for part in _template(source).generate(**variables):
        parts.append(part)
        size += len(part)
        if size > MOST_CHARACTERS:
            raise _TooLongError
    return "".join(parts)


@lru_cache(maxsize=8)
def _template(source: str) -> Any:
    """A template in a sandbox, with the functions that transformers' chat templates may use."""
    from datetime import datetime

    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks the assistant's text for training; here it only outputs its content."""

        tags = frozenset({"generation"})  # type: ignore[assignment]  # jinja2 only looks names up in it

        def parse(self, parser: Any) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.CallBlock(self.call_method("_as_it_is"), [], [], body).set_lineno(line)

        def _as_it_is(self, caller: Any) -> Any:
            return caller()

    def raise_exception(message: str) -> NoReturn:
        raise TemplateError(message)

    def tojson(
        value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
    ) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return environment.from_string(source)


def _limit(name: str, value: int) -> None:
    """Lower a limit of this process, as far as the system allows."""
    import resource

    kind = getattr(resource, name)
    _, most = resource.getrlimit(kind)
    value = value if most == resource.RLIM_INFINITY else min(value, most)
    with suppress(OSError, ValueError):  # the caller's timer ends what takes too long
        resource.setrlimit(kind, (value, most))


if __name__ == "__main__":
    main()
