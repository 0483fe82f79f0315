"""The command line: one Typer app; errors a person can mend become one line and an exit code."""

import importlib
import sys
from typing import Annotated, Any

import typer
import typer.core

from emt_cli import __version__
from emt_cli.errors import EmtError


class Commands(typer.core.TyperGroup):
    """The group of all commands, turning errors and interruptions into exit codes."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command; EmtError and Ctrl-C end in one line on stderr."""
        try:
            return super().invoke(ctx)
        except EmtError as error:
            typer.echo(f"emt: error: {error}", err=True)
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as interrupt:
            typer.echo("emt: interrupted", err=True)
            raise typer.Exit(130) from interrupt


app = typer.Typer(
    name="emt",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"emt {__version__}")
        raise typer.Exit


@app.callback()
def emt(
    version: Annotated[
        bool,
        typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Upscale pictures and video with the Efficient Mixed Transformer (EMT)."""


def _register() -> None:
    for name in ("upscale", "train"):
        try:
            module = importlib.import_module(f"emt_cli.commands.{name}")
        except ModuleNotFoundError:
            continue
        app.command(name)(getattr(module, name))
    app.add_typer(importlib.import_module("emt_cli.commands.models").app, name="models")


_register()


def main() -> None:
    """Run the command line; the console script `emt`."""
    try:
        app()
    except KeyboardInterrupt:
        typer.echo("emt: interrupted", err=True)
        sys.exit(130)
