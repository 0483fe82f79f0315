"""The errors a person can fix, each with its exit code; and those of the system, in such words.

A full disk, permissions, too many open files: to_user_error says what to try (media/files.py does, where a
result is written). Memory that ran out is told by is_out_of_memory.
"""

from __future__ import annotations

import errno
import re


class EmtError(Exception):
    """Something the user can put right: what, which file, what to try, in one line."""

    exit_code = 1


class UsageError(EmtError):
    """Options that contradict each other or name nothing known."""

    exit_code = 2


class ModelError(EmtError):
    """A model that is unknown, damaged, of another kind, or fails its checksum."""

    exit_code = 5


class OutputExistsError(EmtError):
    """The result's place is taken and overwriting was not asked for."""

    exit_code = 6


class DeviceError(EmtError):
    """The device is absent, or out of memory even with the smallest tile."""

    exit_code = 7


class InputError(EmtError):
    """An input that is missing, unreadable or not what its name says."""

    exit_code = 8


class OutputError(EmtError):
    """A result that could not be written: no room, no permission, a format that cannot hold it."""

    exit_code = 4


class VerificationError(EmtError):
    """A result that is not what it was to be; it is kept under another name."""

    exit_code = 9


class StoppedError(EmtError):
    """Long work that ended because it was told to; the same command goes on with it."""

    exit_code = 130


_OUT_OF_MEMORY = (
    "out of memory",
    "allocate memory",
    "insufficient memory",
    "failed to map segment",
    "can't start new thread",
)
"""Words of torch's, OpenVINO's, the system's, its loader's and Python's, in small letters."""
_QUOTED = re.compile(r"""'[^']*'|"[^"]*"|<[^>]*>""")


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an exception of any library means that memory or threads ran out, on any device.

    What stands in quotes does not count: it may be a file's name.
    """
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    if isinstance(error, EmtError) or (isinstance(error, OSError) and error.errno is not None):
        return False
    text = _QUOTED.sub("", str(error)).lower()
    return any(words in text for words in _OUT_OF_MEMORY)


_UNWRITABLE = {
    errno.ENOSPC: "make room, or choose another place",
    errno.EDQUOT: "make room, or choose another place",
    errno.EROFS: "choose another place",
}
"""What to try where nothing can be written."""
_SURROUNDINGS = {
    errno.EACCES: "change its permissions, or choose another place",
    errno.EPERM: "change its permissions, or choose another place",
    errno.EIO: "check the disk",
    errno.EMFILE: "raise the limit on open files: ulimit -n 4096",
    errno.ENFILE: "close other programs",
    errno.ELOOP: "make the link point to a file",
    errno.ENOTDIR: "check the path",
}
"""What to try about permissions, disks and limits: wherever they show, they are not the program's."""


def to_user_error(error: Exception) -> EmtError | None:
    """Return what a person can do about an error; None for a mistake of the program."""
    if isinstance(error, EmtError):
        return error
    if is_out_of_memory(error):
        return DeviceError("not enough memory; choose smaller sizes, or close other programs")
    if isinstance(error, RuntimeError) and str(error).startswith("Symlink loop"):  # Python up to 3.12
        return InputError(f"{error}; make the link point to a file")
    if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
        return UsageError(f"{str(error.filename)[:60]}...: the name is too long for the file system")
    if isinstance(error, OSError) and error.errno is not None:
        words = f"{error.filename or 'a file'}: {error.strerror or error}"
        if error.errno in _UNWRITABLE:
            return OutputError(f"{words}; {_UNWRITABLE[error.errno]}")
        if error.errno in _SURROUNDINGS:
            return InputError(f"{words}; {_SURROUNDINGS[error.errno]}")
    if isinstance(error, ImportError) and not str(error.name).startswith("emt_cli"):
        return EmtError(f"a library cannot be loaded ({error}); `emt doctor` tells how to fix it")
    return None
