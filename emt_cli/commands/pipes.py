"""Videos from standard input and to standard output: they need files of their own while work goes on."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from emt_cli.atomic import temporary_folder
from emt_cli.errors import EmtError, InputError, OutputError, StoppedError, UsageError

PIPE = Path("-")
_SUFFIX = ".mkv"
"""Of what goes to standard output: it holds every stream."""


@contextlib.contextmanager
def files(source: Path, output: Path | None, *, single: bool) -> Iterator[tuple[Path, Path | None]]:
    """Yield the files that stand for source and output, where these are pipes: in a folder nobody else reads.

    single: one video and nothing else is to be written. Errors call such files -. UsageError for what a pipe
    cannot be, InputError where nothing comes in, OutputError where there is no room for it.
    """
    if PIPE not in (source, output):
        yield source, output
        return
    if is_piped(source, output):
        if not single:
            raise UsageError("standard output takes one video and nothing else; name a file with -o")
        if sys.stdout.isatty():
            raise UsageError("a video is not written to a terminal; redirect it, or name a file with -o")
    with temporary_folder() as folder:
        spooled, result = folder / "stdin", folder / f"stdout{_SUFFIX}"
        try:
            if source == PIPE:
                _spool(spooled)
            yield (
                spooled if source == PIPE else source,
                result if is_piped(source, output) else output,
            )
        except StoppedError as stopped:
            raise StoppedError(f"{source}: stopped; of videos in pipes nothing is kept") from stopped
        except EmtError as error:
            words = str(error).replace(str(spooled), "-").replace(str(result), "-")
            raise type(error)(words) from error


def is_piped(source: Path, output: Path | None) -> bool:
    """Whether the result goes to standard output."""
    return output == PIPE or (output is None and source == PIPE)


def send(result: Path) -> None:
    """Write a file to standard output; raises OutputError."""
    try:
        with result.open("rb") as stream:
            shutil.copyfileobj(stream, sys.stdout.buffer, 1 << 20)
        sys.stdout.buffer.flush()
    except OSError as error:
        raise OutputError(
            f"-: could not be written ({error.strerror or error}); name a file with -o"
        ) from error


def _spool(file: Path) -> None:
    if sys.stdin is None or sys.stdin.isatty():
        raise InputError("-: nothing is piped into standard input; name a file, or pipe one in")
    try:
        with file.open("xb") as stream:
            shutil.copyfileobj(sys.stdin.buffer, stream, 1 << 20)
    except OSError as error:
        raise OutputError(
            f"-: could not be kept in {file.parent} ({error.strerror or error}); set TMPDIR to another place"
        ) from error
