"""The typer program and its commands."""

from __future__ import annotations

from typing import Annotated

import typer

import ptgc
from ptgc.cli import bench, build, check, datastore, demo, export, inspect, pack, run, tune
from ptgc.cli.strategy_options import Commands

app = typer.Typer(
    name="ptgc",
    cls=Commands,
    help="Compile parallel text generators into standard ONNX graphs and engines, and run them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("export", help=export.command.__doc__)(lambda: None)  # Commands builds this command from its arguments
app.command("build")(build.command)
app.command("run")(run.command)
app.command("bench")(bench.command)
app.command("tune")(tune.command)
app.command("check")(check.command)
app.command("inspect")(inspect.command)
app.command("pack")(pack.command)
app.command("datastore")(datastore.command)
app.command("demo")(demo.command)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"ptgc {ptgc.__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Options of the program as a whole."""
