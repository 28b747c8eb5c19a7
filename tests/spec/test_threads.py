"""Numbers of threads."""

from __future__ import annotations

import os

import pytest
from typer.testing import CliRunner

from ptgc.cli.app import app
from ptgc.errors import UsageError
from ptgc.spec.threads import check_num_threads


def test_as_many_threads_as_processors_are_taken() -> None:
    for count in (1, os.cpu_count() or 1, 256):
        assert check_num_threads(count) == count


@pytest.mark.parametrize("count", [0, -1, 4097])
def test_others_are_refused(count: int) -> None:
    with pytest.raises(UsageError, match=f"num_threads is {count}; it must be from 1 to"):
        check_num_threads(count)


@pytest.mark.parametrize("command", ["run", "bench", "build"])
def test_commands_refuse_them_before_anything_is_loaded(command: str) -> None:
    ended = CliRunner().invoke(app, [command, "nowhere", "--num-threads", "4097"])
    assert ended.exit_code == 2
    assert "4097" in ended.output
