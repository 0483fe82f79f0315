"""Write a file whole or not at all."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from emt_cli.atomic import open_unfinished, sync, temporary_beside, unregister
from emt_cli.errors import OutputError, OutputExistsError


def check_target(target: Path, *, overwrite: bool) -> None:
    """Raise OutputExistsError or OutputError, before any work, when a file could not be written there."""
    with _readable_errors(target):
        if target.is_dir():
            raise OutputError(f"{target}: is a folder; name a file")
        if not overwrite and _is_plain(target):
            raise OutputExistsError(f"{target}: exists already; choose another name or overwrite it with -y")
        folder = target.resolve().parent
        if not folder.is_dir():
            raise OutputError(f"{target}: its folder does not exist; create {folder} first")
        if not os.access(folder, os.W_OK) and (_is_plain(target) or not target.exists()):
            raise OutputError(f"{target}: no permission to write in {folder}; choose another place")


def check_folder(folder: Path) -> None:
    """Raise OutputError, before any work, when a folder is not there and could not be made."""
    with _readable_errors(folder):
        places = (folder.absolute(), *folder.absolute().parents)
        place = next((place for place in places if place.exists() or place.is_symlink()), places[-1])
        if not place.is_dir():
            raise OutputError(f"{folder}: cannot be made ({place} is no folder); choose another place")
        if not os.access(place, os.W_OK):
            raise OutputError(f"{folder}: no permission to write in {place}; choose another place")


def make_folder(folder: Path) -> None:
    """Make a folder, with those it lies in, unless it is there; raises OutputError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f"{folder}: cannot be made ({reason}); choose another place") from error


def copy_times(source: Path, target: Path) -> None:
    """Give a file the times of access and change of another; raises OutputError."""
    with _readable_errors(target):
        times = source.stat()
        if target.is_file():
            os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))


@contextlib.contextmanager
def new_file(target: Path, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Open a file for writing and reading back that appears under its name only when the block ends well.

    It is written beside the target, synced, then moved into place; on any failure nothing is left. Without
    `overwrite` a target that appears in the meantime is not replaced: OutputExistsError. A full disk or a
    missing permission is an OutputError. Devices and pipes are written to directly, links are followed.
    """
    check_target(target, overwrite=overwrite)
    with _readable_errors(target):
        place = target.resolve()
        if place.exists() and not place.is_file():
            with place.open("wb") as stream:
                yield stream
            return
        with temporary_beside(place) as (temporary, stream):
            yield stream
            sync(stream)
            commit_file(temporary, target, overwrite=overwrite)


@contextlib.contextmanager
def temporary_file(aside: Path, target: Path) -> Iterator[BinaryIO]:
    """Open a new file for writing and reading back that waits under the name aside, synced, for its target.

    When the block fails it is removed, and when the process is ended before commit_file or remove_temporary.
    Errors are those of new_file, and name the target.
    """
    with _readable_errors(target):
        stream = open_unfinished(aside)
        try:
            with stream:
                yield stream
                sync(stream)
        except BaseException:
            remove_temporary(aside)
            raise


def commit_file(aside: Path, target: Path, *, overwrite: bool) -> None:
    """Give a file that waited beside its target that name, in one step; aside is gone in any case.

    Raises OutputExistsError when something is there and `overwrite` is not set, OutputError.
    """
    with _readable_errors(target):
        try:
            if overwrite:
                aside.replace(target.resolve())
            else:
                _move_to_free_place(aside, target.resolve())
        finally:
            remove_temporary(aside)


def remove_temporary(aside: Path) -> None:
    """Remove a file that waits for its name, unless it is gone already; raises OSError."""
    aside.unlink(missing_ok=True)
    unregister(aside)


def _is_plain(target: Path) -> bool:
    return target.is_file() or (target.is_symlink() and not target.exists())


def _move_to_free_place(temporary: Path, place: Path) -> None:
    try:
        place.hardlink_to(temporary)
    except FileExistsError:
        raise
    except (OSError, NotImplementedError):
        # No hard links on this file system: an empty file reserves the name, then gives way.
        os.close(os.open(place, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        temporary.replace(place)


@contextlib.contextmanager
def _readable_errors(target: Path) -> Iterator[None]:
    try:
        yield
    except FileExistsError as error:
        raise OutputExistsError(f"{target}: appeared while it was being made and was left alone") from error
    except OSError as error:
        raise OutputError(f"{target}: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "no room left on the disk; free some or choose another place"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "no permission to write there; choose another place"
    if error.errno == errno.EFBIG:
        return "the file system does not hold files this large; choose another place"
    if error.errno == errno.ENAMETOOLONG:
        return "the name is too long for the file system; choose a shorter one"
    if error.errno == errno.EPIPE:
        return "the reader went away before all was written"
    return f"could not be written ({error.strerror or error}); choose another place"
