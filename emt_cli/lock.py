"""A lock between processes that the system lets go of when its holder ends, however it ends."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from emt_cli.errors import OutputError, UsageError

_TAKEN = {errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK, errno.EDEADLK}


@contextlib.contextmanager
def lock(path: Path, *, busy: str, wait: bool = False) -> Iterator[None]:
    """Hold the lock of the file `path`; it is made with its folders, and removed with those left empty.

    Raises UsageError(busy) when another process (or another block of this one) holds it, unless told to
    wait; OutputError when the file cannot be made or its file system has no locks.
    """
    made = [folder for folder in path.parents if not folder.exists()]
    descriptor = _acquire(path)
    while descriptor is None:
        if not wait:
            raise UsageError(busy)
        time.sleep(0.2)
        descriptor = _acquire(path)
    try:
        yield
    finally:
        if sys.platform != "win32":  # which keeps open files, and its locks are on the file, not its name
            path.unlink(missing_ok=True)
        os.close(descriptor)
        with contextlib.suppress(OSError):  # not empty
            for folder in made:
                folder.rmdir()


def _acquire(path: Path) -> int | None:
    """Open and lock the file of this name; None when somebody else holds it."""
    try:
        descriptor = _open(path)
    except (FileExistsError, NotADirectoryError) as error:
        raise OutputError(f"{path.parent}: cannot be written to (it is no folder)") from error
    except OSError as error:
        raise OutputError(f"{path.parent}: cannot be written to ({error.strerror or error})") from error
    try:
        _lock(descriptor)
        # The last holder may have removed the file between our opening and our locking it.
        if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
            return descriptor
    except OSError as error:
        if error.errno not in _TAKEN and not isinstance(error, FileNotFoundError):
            os.close(descriptor)
            raise OutputError(f"{path}: cannot be locked ({error.strerror}); use another disk") from error
    os.close(descriptor)
    return None


def _open(path: Path, tries: int = 20) -> int:
    """Open the file, with its folder, which its last holder may remove in between."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except (FileNotFoundError, FileExistsError):  # gone before opening, or while seeing what is there
        if tries == 1:
            raise
        return _open(path, tries - 1)


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
