"""The command line: one file per command, each a thin call of the library."""

from __future__ import annotations


def main() -> None:
    """Entry point of `ptgc`."""
    from ptgc.cli.ending import ends_cleanly

    with ends_cleanly():
        from ptgc.cli.app import app
        from ptgc.cli.console import show_any_text

        show_any_text()
        app()
