"""What commands show: results on stdout, talk on stderr, progress bars on a terminal only."""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import TYPE_CHECKING, Any, Protocol

import typer

from emt_cli.errors import OutputError

if TYPE_CHECKING:
    from rich.progress import Progress

REDRAWN_EVERY = 0.1
"""Seconds between two drawings of a bar."""
_screen = RLock()
_bar: Progress | None = None
"""What is drawn at present; lines are printed above it."""


class Update(Protocol):
    """Draws one bar: what is being done, how much of it is done, and how much there is in all."""

    def __call__(self, label: str, done: float, total: float) -> None:
        """Show the new state."""


def show(text: str) -> None:
    """Print one line of the result on stdout."""
    _print(plain(text))


def say(text: str, *, quiet: bool = False) -> None:
    """Print one line on stderr, unless quiet."""
    if not quiet:
        with _above_bar():
            typer.echo(plain(text), err=True)


def show_json(value: Any) -> None:
    """Print one JSON value on one line of stdout, in ASCII, so that any name of a file can be printed."""
    _print(json.dumps(value))


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table on stdout; its lines break on a terminal only, never for a program that reads them."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    if sys.stdout.isatty():
        Console().print(table)
        return
    stream = io.StringIO()
    Console(file=stream, width=1000, color_system=None).print(table)
    for line in stream.getvalue().splitlines():
        _print(line.rstrip())


def _print(line: str) -> None:
    """Print on stdout; a reader that has gone away stops the talk, not the work."""
    try:
        with _above_bar():
            typer.echo(line)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        raise OutputError(
            f"standard output: cannot be written ({error.strerror or error}); see where it goes to"
        ) from error


@contextmanager
def progress(*, quiet: bool = False) -> Iterator[Update]:
    """Yield a function that draws a progress bar with the time left on stderr, if that is a terminal."""
    if quiet or not sys.stderr.isatty():
        yield lambda label, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(compact=True),
    )
    bar = Progress(
        *columns,
        console=Console(stderr=True),
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,  # what is for a pipe would go to the terminal
        redirect_stderr=False,
    )
    with bar, on_screen(bar):
        task = bar.add_task("", visible=False)
        last, label_drawn, drawn = (0.0, 0.0), "", 0.0

        def update(label: str, done: float, total: float) -> None:
            nonlocal last, label_drawn, drawn
            with _screen:
                if done < last[0] or total != last[1]:  # something else, which takes its own time
                    bar.reset(task, description=plain(label), total=total)
                last = done, total
                bar.update(task, description=plain(label), completed=done, total=total, visible=done < total)
                now = time.monotonic()
                if label != label_drawn or done >= total or now - drawn >= REDRAWN_EVERY:
                    label_drawn, drawn = label, now
                    bar.refresh()

        yield update


@contextmanager
def on_screen(bar: Progress) -> Iterator[None]:
    """Print lines above a bar as long as the block lasts; the bar draws itself on stderr, when told to."""
    global _bar
    with _screen:
        before, _bar = _bar, bar
    try:
        yield
    finally:
        with _screen:
            _bar = before


@contextmanager
def _above_bar() -> Iterator[None]:
    """Make room for a line where a bar is drawn, and draw it again below."""
    with _screen:
        if _bar is None:
            yield
            return
        _bar.console.file.write("\r\x1b[2K")
        _bar.console.file.flush()
        yield
        _bar.refresh()


def break_off(last_words: str = "") -> None:
    """Leave the terminal as it was found and say a last line, in the middle of anything else."""
    if _bar is not None:
        last_words = f"\r\x1b[2K\x1b[?25h{last_words}"  # clear the line, show the cursor
    with contextlib.suppress(OSError):
        os.write(2, last_words.encode())


def plain(text: str) -> str:
    """Return text as one printable line: what comes from files must not steer the terminal."""
    return "".join(char if char.isprintable() else " " if char.isspace() else "\ufffd" for char in text)


def value_text(value: Any) -> str:
    """Write a JSON value for a person: numbers as 4,297, fields as "psnr 30.2, ssim 0.85", pairs as 8x4."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {value_text(part)}" for key, part in value.items())
    if isinstance(value, list | tuple):
        pair = len(value) == 2 and all(isinstance(part, int) for part in value)
        return ("x" if pair else "; ").join(map(value_text, value))
    return f"{value:,}" if type(value) is int else str(value)


def bytes_text(count: float) -> str:
    """Say a number of bytes in words: 556512 is "557 kB"."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if count >= 10 or unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def seconds_text(seconds: float) -> str:
    """Say a duration in words: 75 is "1 min 15 s"."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
