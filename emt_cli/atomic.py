"""Files that appear whole or not at all; imports nothing of the package."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

_TEMPORARY = re.compile(r"\.emt-[0-9a-f]{16}\.tmp")
_STALE_SECONDS = 3600
"""Where files cannot be locked, they count as left behind after this."""
_UNFINISHED: set[Path] = set()


def write_atomically(path: Path, data: bytes) -> None:
    """Write data beside path, then put it in path's place in one step; raises OSError.

    Whoever reads path meanwhile, and whatever ends the process, path is the old file or the new one.
    """
    try:
        with temporary_beside(path) as (temporary, stream):
            stream.write(data)
            sync(stream)
            temporary.replace(path)
    except OSError as error:
        error.filename = str(path)  # a full disk names none, and the temporary file's says nothing
        raise


@contextlib.contextmanager
def temporary_beside(place: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Open a new file in place's folder, for writing and reading back; yield its path and stream.

    It has the permissions of the file at place, if there is one. When the block ends it is closed, and
    removed unless it has been moved. What a killed process left in the folder is removed first: such files
    that nobody holds a lock on. Raises OSError.
    """
    _sweep(place.parent)
    temporary, stream = _open_locked(place.parent)
    try:
        register(temporary)
        if sys.platform != "win32":
            with contextlib.suppress(OSError):
                os.fchmod(stream.fileno(), stat.S_IMODE(place.stat().st_mode))
        yield temporary, stream
    finally:
        if sys.platform == "win32":
            stream.close()
        temporary.unlink(missing_ok=True)
        unregister(temporary)
        stream.close()


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder where the system keeps temporary files; it is removed when the block ends."""
    with tempfile.TemporaryDirectory(prefix="emt-") as name:
        folder = Path(name)
        with unfinished(folder):
            yield folder


@contextlib.contextmanager
def unfinished(path: Path) -> Iterator[None]:
    """Let remove_unfinished() remove a file or folder as long as the block lasts."""
    register(path)
    try:
        yield
    finally:
        unregister(path)


def register(path: Path) -> None:
    """Let remove_unfinished() remove a file or folder until unregister()."""
    _UNFINISHED.add(path)


def unregister(path: Path) -> None:
    """Take back register(): what is there is finished, gone, or for another process to deal with."""
    _UNFINISHED.discard(path)


def remove_unfinished() -> None:
    """Remove all that is being written at this moment: the process is about to end."""
    for path in list(_UNFINISHED):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def sync(stream: BinaryIO) -> None:
    """Put what was written on the disk, so that the file can be moved; raises OSError."""
    stream.flush()
    os.fsync(stream.fileno())
    if sys.platform == "win32":  # which moves no open files
        stream.close()


def _open_locked(folder: Path) -> tuple[Path, BinaryIO]:
    while True:
        path = folder / f".emt-{secrets.token_hex(8)}.tmp"
        stream = path.open("x+b")
        # Another process may have taken the new file for one left behind, before it was locked.
        if _is_free(stream.fileno()) is not False and path.exists():
            return path, stream
        stream.close()


@lru_cache(maxsize=256)  # a run over many folders does not remember them all
def _sweep(folder: Path) -> None:
    """Remove what killed processes left in a folder, once in the life of this one."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if _TEMPORARY.fullmatch(path.name):
                _remove_if_stale(path)


def _remove_if_stale(path: Path) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR)
        try:
            free = _is_free(descriptor)
            if free is None:
                free = time.time() - os.fstat(descriptor).st_mtime > _STALE_SECONDS
            if free and sys.platform != "win32":
                path.unlink()
        finally:
            os.close(descriptor)
        if free and sys.platform == "win32":
            path.unlink()


def _is_free(descriptor: int) -> bool | None:
    """Lock an open file until it is closed; False when another process has, None where nobody can tell."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
