"""A lock between processes that the system lets go of when its holder ends, however it ends."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from emt_cli.errors import OutputError, UsageError


@contextlib.contextmanager
def lock(path: Path, *, busy: str, wait: bool = False) -> Iterator[None]:
    """Hold the lock of the file `path`; it is made with its folders, and removed with those left empty.

    Raises UsageError(busy) when another process (or another block of this one) holds it, unless told to
    wait; OutputError when the file cannot be made or its file system has no locks.
    """
    made = [folder for folder in path.parents if not folder.exists()]
    held = FileLock(
        path, timeout=-1 if wait else 0, poll_interval=0.2, thread_local=False, fallback_to_soft=False
    )
    _acquire(held, path, busy)
    try:
        yield
    finally:
        if sys.platform != "win32":  # where the lock removes its file itself
            path.unlink(missing_ok=True)  # who waits for this one sees that, and makes another
        held.release()
        with contextlib.suppress(OSError):  # not empty
            for folder in made:
                folder.rmdir()


def _acquire(held: FileLock, path: Path, busy: str, tries: int = 20) -> None:
    """Make the folder and take the lock in it; the last holder may remove the folder in between."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held.acquire()
    except Timeout:
        raise UsageError(busy) from None
    except OSError as error:
        if tries and isinstance(error, (FileNotFoundError, FileExistsError)):
            return _acquire(held, path, busy, tries - 1)
        reason = (
            "it is no folder" if isinstance(error, (FileExistsError, NotADirectoryError)) else error.strerror
        )
        raise OutputError(f"{path.parent}: cannot be written to ({reason}); choose another place") from error
