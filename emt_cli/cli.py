"""The command line: one Typer app; errors a person can mend become one line and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from typing import Annotated, Any

import typer
import typer.core

from emt_cli import __version__
from emt_cli.commands import batch, benchmark, explain, export, models, train, ui, upscale, video
from emt_cli.commands.options import examples
from emt_cli.errors import EmtError

INTERRUPTED = 130


class Commands(typer.core.TyperGroup):
    """The group of all commands; turns errors and Ctrl-C into one line and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except EmtError as error:
            ui.say(f"emt: error: {error}")
            raise typer.Exit(error.exit_code) from error
        except KeyboardInterrupt as interrupt:
            ui.say("emt: interrupted")
            raise typer.Exit(INTERRUPTED) from interrupt


app = typer.Typer(
    name="emt",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=examples("emt upscale photo.png --scale 4", "emt upscale --help"),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        ui.show(f"emt {__version__}")
        raise typer.Exit


@app.callback()
def emt(
    version: Annotated[
        bool,
        typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Upscale pictures and video with the Efficient Mixed Transformer (EMT)."""


app.command("upscale", epilog=upscale.EPILOG)(upscale.upscale)
app.command("batch", epilog=batch.EPILOG)(batch.batch)
app.command("video", epilog=video.EPILOG)(video.video)
app.command("train", epilog=train.EPILOG)(train.train)
app.command("benchmark", epilog=benchmark.EPILOG)(benchmark.benchmark)
app.command("explain", epilog=explain.EPILOG)(explain.explain)
app.command("export", epilog=export.EPILOG)(export.export)
app.add_typer(models.app, name="models")


def main() -> None:
    """Run the command line: the console script `emt`."""
    signal.signal(signal.SIGTERM, _stop)
    try:
        app(prog_name="emt")
    except Exception:
        traceback.print_exc()
        ui.say("emt: this is a mistake of the program; please report it with the lines above")
        sys.exit(1)
    finally:
        _close_stdout()


def _stop(number: int, frame: object) -> None:
    """End as an exception does, so that temporary files are removed on the way."""
    raise SystemExit(128 + number)


def _close_stdout() -> None:
    """Write out what is left; a reader that has gone away (`emt models | head -1`) is no error."""
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
