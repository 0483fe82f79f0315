"""Memory budget checks: before the work where possible, told with the name of what needs it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from emt_cli.engine.memory import spare_memory
from emt_cli.errors import DeviceError, EmtError, is_out_of_memory

_ADVICE = "choose a smaller --scale or --tile, or close other programs"


def check_memory(name: str, needed: int, limit: int | None = None, *, held: int = 0) -> None:
    """Raise DeviceError when a file's enlargement needs more bytes than are free, or than the limit.

    held: what it has taken of them already.
    """
    free = spare_memory() + held
    if limit is not None and limit < min(needed, free):
        raise DeviceError(
            f"{name}: needs about {size_text(needed)} of memory, and the limit is {size_text(limit)}"
        )
    if needed > free:
        raise DeviceError(
            f"{name}: needs about {size_text(needed)} of memory and {size_text(free)} are free; {_ADVICE}"
        )


def size_text(size: int) -> str:
    """Say a number of bytes in words: 48000000 is "48 MB"."""
    if size >= 10**10:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 10**6 else f"{size / 1e3:.0f} kB"


def too_little_memory(name: str) -> DeviceError:
    """Return what to tell of a file when an allocation failed."""
    return DeviceError(f"{name}: needs more memory than is free; {_ADVICE}")


@contextlib.contextmanager
def enough_memory(name: str) -> Iterator[None]:
    """Turn an allocation that failed, wherever it did, into DeviceError with name in front."""
    try:
        yield
    except EmtError:
        raise
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise too_little_memory(name) from error


@contextlib.contextmanager
def named(name: str) -> Iterator[None]:
    """Put name in front of what a device says, which knows of no files."""
    try:
        yield
    except DeviceError as error:
        raise DeviceError(f"{name}: {error}") from error
