"""The command line: one Typer app; errors a person can fix become one line and an exit code."""

from __future__ import annotations

import gc
import io
import logging
import os
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
import typer.core

from emt_cli import __version__
from emt_cli.atomic import nothing_unfinished
from emt_cli.commands import (
    batch,
    benchmark,
    compare,
    config,
    doctor,
    explain,
    export,
    models,
    setup,
    train,
    ui,
    upscale,
    video,
)
from emt_cli.commands.defaults import ConfiguredCommand, load_defaults
from emt_cli.commands.implied import implied_command
from emt_cli.commands.options import RayCommand, examples
from emt_cli.commands.plain_help import HELP_OPTIONS, use_plain_words
from emt_cli.commands.tour import TOUR
from emt_cli.errors import DeviceError, EmtError, OutputError, UsageError, to_user_error
from emt_cli.stop import interrupted


class Commands(typer.core.TyperGroup):
    """The group of all commands; turns errors into one line and an exit code."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return all options; Typer adds those for completion late, so that words are chosen here."""
        use_plain_words(self)
        return list(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command in front where files are given without one."""
        own = {*self.commands, *(option for param in self.get_params(ctx) for option in param.opts)}
        if args and args[0] not in own and (command := implied_command(args)):
            args = [command, *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for; with --json a failure is an event too."""
        as_json = "--json" in (*ctx._protected_args, *ctx.args)
        try:
            _check_address_space()
            return super().invoke(ctx)
        except Exception as error:
            known = to_user_error(error)
            if known is None:
                raise
            if as_json:
                ui.show_json({"event": "failed", "message": str(known), "exit_code": known.exit_code})
            ui.say(f"emt: error: {known}")
            raise typer.Exit(known.exit_code) from error


def _check_address_space() -> None:
    """Raise DeviceError where `ulimit -v` is so low that libraries crash while they are loaded."""
    if sys.platform != "linux":
        return
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    least = _ADDRESS_SPACE + (os.cpu_count() or 1) * _ADDRESS_SPACE_A_CORE
    if limit != resource.RLIM_INFINITY and limit < least:
        raise DeviceError(
            f"ulimit -v leaves {limit >> 20} MB of address space, and libraries need {least >> 20} MB;"
            " raise it, or limit memory by a container instead"
        )


_ADDRESS_SPACE, _ADDRESS_SPACE_A_CORE = 384 << 20, 64 << 20
"""Below this OpenBLAS ends the process, which takes buffers for each core; measured with two of them."""


app = typer.Typer(
    name="emt",
    cls=Commands,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": HELP_OPTIONS},
    epilog=examples("emt upscale photo.png --scale 4", "emt upscale --help"),
)


def _print_version(wanted: bool) -> None:
    if wanted:
        ui.show(f"emt {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def emt(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", "-V", callback=_print_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Upscale pictures and video with the Efficient Mixed Transformer (EMT).

    Files need no command: emt photo.jpg means upscale, emt clip.mp4 video, emt photos/ batch.
    """
    commands: Any = context.command
    context.obj = load_defaults(commands.commands)
    context.default_map = {
        command: {name: setting.value for name, setting in values.items()}
        for command, values in context.obj.commands.items()
    }
    if context.invoked_subcommand is None:
        for line in TOUR.splitlines():
            ui.show(line)


app.command("upscale", cls=ConfiguredCommand, epilog=upscale.EPILOG)(upscale.upscale)
app.command("batch", cls=RayCommand, epilog=batch.EPILOG)(batch.batch)
app.command("video", cls=RayCommand, epilog=video.EPILOG)(video.video)
app.command("train", epilog=train.EPILOG)(train.train)
app.command("benchmark", epilog=benchmark.EPILOG)(benchmark.benchmark)
app.command("compare", epilog=compare.EPILOG)(compare.compare)
app.command("explain", epilog=explain.EPILOG)(explain.explain)
app.command("config", epilog=config.EPILOG)(config.config)
app.command("export", epilog=export.EPILOG)(export.export)
app.add_typer(models.app, name="models")
app.command("setup", epilog=setup.EPILOG)(setup.setup)
app.command("doctor", epilog=doctor.EPILOG)(doctor.doctor)


def main() -> None:
    """Run the command line: the console script `emt`."""
    _open_streams()
    try:
        Path.cwd()
    except FileNotFoundError:  # libraries do not stand that
        ui.say("emt: error: the current folder has been removed; change to another one")
        sys.exit(UsageError.exit_code)
    for number in TERMINATION_SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup and & in scripts have it
            signal.signal(number, _end)
    logging.getLogger("emt_cli").addHandler(_LogHandler())
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # what is wrong with a file, an error says better
    warnings.filterwarnings("ignore", module=r"PIL\.")
    gc.set_threshold(100_000)  # imports make so many objects that looking for garbage costs time
    try:
        app(prog_name="emt")
    except EmtError as error:  # before any command: --version on a full disk
        ui.say(f"emt: error: {error}")
        sys.exit(error.exit_code)
    except SystemExit as end:
        if end.code == _INTERRUPTED and interrupted():
            _close_stdout()
            _die_of_interrupt()
        raise
    except Exception:
        traceback.print_exc()
        ui.say("emt: this is a mistake of the program; please report it with the lines above")
        sys.exit(1)
    finally:
        _close_stdout()
        gc.freeze()  # nor is garbage looked for at the very end, which takes another 0.4 s


class _LogHandler(logging.Handler):
    """Says what the engine warns of, above a bar where one is drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        """Say one message."""
        ui.say(f"emt: {record.getMessage()}")


TERMINATION_SIGNALS = [
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
]


def _end(number: int, frame: object) -> None:
    """End at once on Ctrl-C and the like, with nothing left half-written.

    An exception from here could hit any line of any library: locks would stay held, threads be waited for
    that nobody ends, and a library might swallow it. Commands with something to finish first listen
    themselves (stop_signals).
    """
    with nothing_unfinished():
        ui.break_off("emt: interrupted\n" if number == signal.SIGINT else "")
        if number == signal.SIGINT:
            _die_of_interrupt()
        os._exit(128 + number)


_INTERRUPTED = 128 + signal.SIGINT


def _die_of_interrupt() -> NoReturn:
    """End by the signal itself: a shell sees 130, and ends its loop, which it does not for an exit code."""
    if os.name == "posix":
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(_INTERRUPTED)  # on Windows, and as the first process of a container, which signals do not end


def _open_streams() -> None:
    """Make the three standard streams usable, whatever the shell has done to them.

    A closed one (`>&-`) would leave its number to the next file that is opened, and what a library prints
    would go into that file. Characters that the terminal's encoding lacks are written as escapes.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8")  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _close_stdout() -> None:
    """Write out what is left; a reader that has gone away (`emt models | head -1`) is no error."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        ui.say(f"emt: error: standard output: {error.strerror or error}")
        sys.exit(OutputError.exit_code)
