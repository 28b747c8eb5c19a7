"""Signals end the program, also where code of others catches what they raise."""

from __future__ import annotations

import subprocess
import sys

import pytest

_CODE = """
import signal, sys, time
from importlib.machinery import ExtensionFileLoader
from ptgc.cli.console import command_errors
from ptgc.cli.ending import ends_cleanly
from ptgc.errors import BackendError

class Dying:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

class Loader(ExtensionFileLoader):
    def load(self):
        signal.raise_signal(signal.SIGINT)
        print("loaded")

signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
with ends_cleanly(), command_errors():
{body}
print("went on")
"""


def ended(body: str) -> tuple[int, str, str]:
    """Exit status, output and errors of a program with this body, indented by four spaces."""
    code = _CODE.format(body=body)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("error", ["ImportError('initialization failed')", "BackendError('not installed')"])
def test_an_error_that_a_library_makes_of_an_interruption_is_one(error: str) -> None:
    body = f"    try:\n        signal.raise_signal(signal.SIGINT)\n    except BaseException:\n        raise {error}"
    assert ended(body) == (130, "", "Interrupted.\n")


def test_an_interruption_that_python_ignores_comes_again() -> None:
    assert ended("    Dying()\n    time.sleep(20)") == (143, "", "Terminated.\n")


def test_an_interruption_waits_for_an_extension_that_is_being_loaded() -> None:
    assert ended("    Loader('x', 'y').load()\n    time.sleep(20)") == (130, "loaded\n", "Interrupted.\n")
