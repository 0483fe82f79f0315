"""What a long job has done, on disk, so that the same command goes on where it stopped."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from emt_cli.errors import OutputError

_PIECE = 1 << 20


FileState = tuple[int, int, int] | None
"""A file's number, size and time of its last change; None for one that is not there."""


def file_state(path: Path) -> FileState:
    """Return by what one tells, without reading it, that a file has been changed or replaced."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_ino, facts.st_size, facts.st_mtime_ns


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal, read piece by piece; raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def read_journal(path: Path) -> list[dict[str, Any]]:
    """Return the records of a journal, oldest first; lines torn by a kill or damaged are skipped.

    A journal that does not exist is empty. Raises OutputError when it cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be read ({error.strerror or error}); check its permissions, or name another -o"
        ) from error
    records = []
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


class Journal:
    """Appends records to a file, one JSON object a line; each is on the disk when `append` returns.

    One process at a time: hold a lock (`emt_cli.lock`) around it. Raises OutputError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = path.open("a+b", buffering=0)
        except OSError as error:
            raise self._error(error) from error
        self._torn = not self._ends_with_newline()

    def append(self, record: dict[str, Any]) -> None:
        """Write one record of JSON values; after a failure the next one starts on a line of its own.

        Raises OutputError, also when the file is not under its name any more: nobody would find the record.
        """
        there = file_state(self.path)
        if there is None or there[0] != os.fstat(self._stream.fileno()).st_ino:
            raise OutputError(
                f"{self.path}: was moved or removed meanwhile; put it back, then go on with the same command"
            )
        line = json.dumps(record, separators=(",", ":")).encode("ascii") + b"\n"
        if self._torn:
            line = b"\n" + line
        self._torn = True
        try:
            if self._stream.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._stream.fileno())
        except OSError as error:
            raise self._error(error) from error
        self._torn = False

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def _ends_with_newline(self) -> bool:
        if self._stream.seek(0, os.SEEK_END) == 0:
            return True
        self._stream.seek(-1, os.SEEK_END)
        return self._stream.read(1) == b"\n"

    def _error(self, error: OSError) -> OutputError:
        return OutputError(
            f"{self.path}: cannot be written ({error.strerror or error}); what was noted before is kept"
        )
