"""The errors a person can fix; each knows the exit code the command line ends with."""

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
