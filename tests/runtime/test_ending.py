"""Processes that end, fork or are interrupted while texts are being written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.test_core import PLAN, shapes
from tests.runtime.toy_build import write_toy_build

PREPARE = """
import atexit, os, signal, sys, threading, time
from ptgc.runtime import _core, streaming
from ptgc.runtime.libraries import onnxruntime_library

def load():
    return _core.Generator(sys.argv[1], num_threads=1, library=onnxruntime_library())

def forever(generator):
    while True:
        generator.generate([request] * 50, heard.set)

class Heard(threading.Event):
    def set(self, *_tokens):
        super().set()

def beside(target, *arguments):
    threading.Thread(target=target, args=arguments, daemon=True).start()
    heard.wait()

request = _core.Request(prompt_ids=[5, 9, 3], max_new_tokens=30)
generator, heard = load(), Heard()
"""

SCRIPTS = {
    "texts of daemon threads": (
        """
        other = load()
        for one in (generator, other, generator):
            beside(forever, one)
        """,
        0,
    ),
    "a session": (
        """
        def converse():
            session = generator.session()
            while True:
                session.reset()
                session.append([1, 2])
                session.generate(_core.Request(prompt_ids=[], max_new_tokens=30), heard.set)
        beside(converse)
        """,
        0,
    ),
    "a call that waits for a row": (
        """
        session = generator.session()
        waits = _core.Generator(sys.argv[1], num_threads=1, library=onnxruntime_library(), wait_seconds=600)
        kept = [waits.session() for _ in range(2)]
        threading.Thread(target=waits.generate, args=([request],), daemon=True).start()
        time.sleep(0.1)
        """,
        0,
    ),
    "a callback that returns when Python is gone": (
        """
        def stuck(_index, _ids):
            heard.set()
            threading.Event().wait()
        beside(lambda: generator.generate([request], stuck))
        """,
        0,
    ),
    "a callback that ends the process": (
        """
        beside(forever, generator)
        generator.generate([request], lambda _index, _ids: sys.exit(5))
        """,
        5,
    ),
    "an interrupt": (
        """
        signal.signal(signal.SIGINT, signal.default_int_handler)
        beside(forever, generator)
        threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT)).start()
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            sys.exit(130)
        """,
        130,
    ),
    "functions that run at exit": (
        """
        def late():
            try:
                generator.generate([request])
            except Exception as error:
                assert "ending" in str(error)
                generator.close()
                os._exit(3)
        atexit.unregister(streaming._end_calls)
        atexit.register(late)
        atexit.register(streaming._end_calls)
        beside(forever, generator)
        """,
        3,
    ),
    "a forked process": (
        """
        beside(forever, generator)
        session = generator.session()
        child = os.fork()
        if child == 0:
            try:
                generator.generate([request])
            except Exception as error:
                assert "forked" in str(error)
                del session, generator
                sys.exit(7)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        """,
        7,
    ),
    "a callback that forks": (
        """
        children = []
        def fork(_index, _ids):
            if not children:
                children.append(os.fork())
        try:
            generator.generate([request], fork)
        except Exception as error:
            assert children == [0] and "forked" in str(error)
            sys.exit(7)
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(children[0], 0)[1]))
        """,
        7,
    ),
}


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_toy_build(tmp_path_factory.mktemp("bundle"), PLAN, shapes(2))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_process_ends_quietly_with_its_status_whatever_is_written(name: str, build: Path) -> None:
    script, status = SCRIPTS[name]
    body = "\n".join(line[8:] for line in script.splitlines())
    command = [sys.executable, "-W", "ignore", "-c", PREPARE + body, str(build)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (status, "")
