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
import threading
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

_TEMPORARY = re.compile(r"\.emt-[0-9a-f]{16}\.tmp")
_STALE_SECONDS = 3600
"""Where files cannot be locked, they count as left behind after this."""
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)
"""Whoever else can write to a folder may have put a link there."""
_UNFINISHED: set[Path] = set()
_BEGIN = threading.RLock()
"""Held while a file or folder is registered and made, and when the process is about to end."""
_PATIENCE = 2
"""Seconds that a process about to end waits for a thread that makes a file, where storage hangs."""


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
def temporary_folder(parent: Path | None = None) -> Iterator[Path]:
    """Make a folder, closed to others, where the system keeps temporary files, or in parent.

    It is removed when the block ends. What killed processes left beside it is removed first. Raises OSError.
    """
    parent = parent or Path(tempfile.gettempdir())
    _sweep(parent)
    folder, descriptor = _make_locked(parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        unregister(folder)
        if descriptor is not None:
            os.close(descriptor)


def open_unfinished(path: Path) -> BinaryIO:
    """Open a new file that nothing_unfinished() removes until unregister(); raises OSError."""
    with _registered(path):
        return path.open("x+b")


@contextlib.contextmanager
def _registered(path: Path) -> Iterator[None]:
    """Register what the block makes, so that a signal finds it registered or not begun."""
    with _BEGIN:
        _UNFINISHED.add(path)
        try:
            yield
        except BaseException:
            _UNFINISHED.discard(path)
            raise


def unregister(path: Path) -> None:
    """Leave a file or folder to itself: it is finished, gone, or for another process to deal with."""
    _UNFINISHED.discard(path)


@contextlib.contextmanager
def nothing_unfinished() -> Iterator[None]:
    """Remove all that is being written; no thread begins anything more until the block ends.

    For a process that ends inside the block.
    """
    held = _BEGIN.acquire(timeout=_PATIENCE)
    try:
        for path in list(_UNFINISHED):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
        yield
    finally:
        if held:
            _BEGIN.release()


def sync(stream: BinaryIO) -> None:
    """Put what was written on the disk, so that the file can be moved; raises OSError."""
    stream.flush()
    os.fsync(stream.fileno())
    if sys.platform == "win32":  # which moves no open files
        stream.close()


def _open_locked(folder: Path) -> tuple[Path, BinaryIO]:
    while True:
        path = folder / f".emt-{secrets.token_hex(8)}.tmp"
        stream = open_unfinished(path)
        # Another process may have taken the new file for one left behind, before it was locked.
        if _is_free(stream.fileno()) is not False and path.exists():
            return path, stream
        stream.close()
        unregister(path)


def _make_locked(parent: Path) -> tuple[Path, int | None]:
    """Make a folder and lock it, where folders can be; the lock lasts as long as the descriptor is open."""
    while True:
        folder = parent / f".emt-{secrets.token_hex(8)}.tmp"
        with _registered(folder):
            folder.mkdir(mode=0o700)
        if sys.platform == "win32":
            return folder, None
        with contextlib.suppress(FileNotFoundError):  # taken for one left behind, as above
            descriptor = os.open(folder, os.O_RDONLY)
            if _is_free(descriptor) is not False and folder.exists():
                return folder, descriptor
            os.close(descriptor)
        unregister(folder)


@lru_cache(maxsize=256)  # a run over many folders does not remember them all
def _sweep(place: Path) -> None:
    """Remove what killed processes left in a folder, once in the life of this one."""
    with contextlib.suppress(OSError):
        for path in place.iterdir():
            if _TEMPORARY.fullmatch(path.name):
                with contextlib.suppress(OSError):
                    if stat.S_ISDIR(path.lstat().st_mode):
                        _remove_folder_if_stale(path)
                    else:
                        _remove_if_stale(path)


def _remove_if_stale(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR | _NO_LINKS)
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


def _remove_folder_if_stale(path: Path) -> None:
    """Remove a folder of this user's that nobody holds; where that cannot be told, it stays."""
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | _NO_LINKS)
    try:
        if os.fstat(descriptor).st_uid == os.geteuid() and _is_free(descriptor):
            shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(descriptor)


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
