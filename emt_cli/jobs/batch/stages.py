"""What is done with each picture of a batch, wherever it is done: read, enlarge, write aside."""

from __future__ import annotations

import errno
import hashlib
import time
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice, takewhile
from pathlib import Path
from typing import Any

from emt_cli.errors import EmtError, OutputError, is_out_of_memory
from emt_cli.jobs.batch.folder import BatchFolder
from emt_cli.jobs.batch.plan import Item
from emt_cli.jobs.journal import Journal, content_hash
from emt_cli.jobs.memory import check_memory, too_little_memory
from emt_cli.jobs.picture.job import PictureJob, alike
from emt_cli.jobs.picture.task import Task
from emt_cli.media.files import commit_file, copy_times, make_folder, remove_temporary, temporary_file
from emt_cli.media.picture.io import Picture, encode_picture, read_bytes, read_picture
from emt_cli.steps import Steps, finish


@dataclass(frozen=True, eq=False)
class Opened:
    """A picture that was read and is to be enlarged."""

    item: Item
    task: Task
    source: dict[str, Any]
    """Size, time and content hash of the source."""


@dataclass(frozen=True)
class Written:
    """A result that waits beside its place, and what the journal will say of it."""

    facts: dict[str, Any]
    record: dict[str, Any]
    moves: tuple[tuple[Path, Path], ...]
    """From where to where its files go."""


@dataclass(frozen=True)
class Failure:
    """What one picture ended with."""

    error: EmtError
    full: bool = False
    """Whether the disk is full, which others will meet too."""
    trace: str | None = None
    """Where in the program it happened, for mistakes of the program."""


class PictureWork:
    """The steps of one picture; the first two know nothing of each other's threads.

    into: the folder of the results.
    """

    def __init__(self, job: PictureJob, into: BatchFolder) -> None:
        self.job = job
        self.into = into

    def read(self, item: Item, *, check: bool = False) -> Opened | None:
        """Read and plan a picture; None when the journal says that the same was done with the same content.

        check: raise DeviceError when it needs more memory than is free.
        """
        name = str(item.source)
        try:
            facts = item.source.stat()
        except OSError:
            facts = None  # read_bytes says it better
        data = read_bytes(item.source, name)
        source: dict[str, Any] = {"path": name, "sha256": hashlib.sha256(data).hexdigest()}
        if facts is not None:
            source |= {"size": facts.st_size, "time": facts.st_mtime_ns}
        known = item.record or {}
        if known.get("key") == item.key and known.get("source", {}).get("sha256") == source["sha256"]:
            return None
        picture = read_picture(data, name=name, max_pixels=self.job.settings.max_pixels)
        task = self.job.task(picture, item.target, name=name, format=item.format)
        if check:
            check_memory(name, task.memory, self.job.settings.memory, held=task.held)
        return Opened(item, task, source)

    def enlarge(self, opened: Opened, index: int = 0) -> Steps[Picture]:
        """Enlarge a picture on a device, by its place in the list; yields the share done."""
        return self.job.enlarge(opened.task, index)

    def share(self, first: Opened, waiting: Sequence[Opened], index: int) -> int:
        """Return how many of those that wait next a device best enlarges together with the first."""
        most = self.job.batch_size(first.task, index) - 1
        if most < 1:
            return 0
        mates = takewhile(lambda one: alike(first.task, one.task), waiting)
        return len(list(islice(mates, most)))

    def enlarge_together(self, batch: Sequence[Opened], index: int) -> list[Picture]:
        """Enlarge pictures that share a batch."""
        return self.job.enlarge_together([opened.task for opened in batch], index)

    def write(self, opened: Opened, result: Picture, seconds: float, index: int = 0) -> Written:
        """Write a result beside its place; nothing is left there when that fails. Raises OutputError."""
        item, settings = opened.item, self.job.settings
        notes = list(result.notes)
        moves: list[tuple[Path, Path]] = []
        files = []
        folder = item.target.parent
        make_folder(folder)
        try:
            for part in self.job.files(opened.task, result):
                assert isinstance(part.target, Path)
                aside = folder / self.into.waiting_name()
                with temporary_file(aside, part.target) as stream:
                    notes += encode_picture(
                        stream,
                        part.picture,
                        format=part.format,
                        quality=settings.quality,
                        strip_metadata=settings.strip_metadata,
                        name=str(part.target),
                    )
                moves.append((aside, part.target))
                if settings.keep_dates:
                    copy_times(item.source, aside)
                facts = aside.stat()
                path = Path(item.name).with_name(part.target.name).as_posix()
                digest = content_hash(aside)
                files.append(
                    {"path": path, "size": facts.st_size, "time": facts.st_mtime_ns, "sha256": digest}
                )
        except BaseException as error:
            discard(moves)
            if isinstance(error, OSError):
                raise OutputError(
                    f"{item.target}: could not be written ({error}); choose another place"
                ) from error
            raise
        more = {"seconds": round(seconds, 3), "notes": [*notes, *self.job.device_notes(opened.task, index)]}
        if settings.compare:
            more["compare"] = str(moves[-1][1])
        record = {
            "name": item.name,
            "time": time.time(),
            "key": item.key,
            "source": opened.source,
            "files": files,
        }
        return Written(opened.task.facts() | more, record, tuple(moves))

    def whole(self, item: Item, device: AbstractContextManager[object]) -> Written | Failure | None:
        """Do all steps of a picture on the first device; errors are returned. None as `read` says.

        device: held while the network is at work, by one of several threads.
        """
        try:
            opened = self.read(item)
            if opened is None:
                return None
            with device:
                start = time.perf_counter()
                result = finish(self.enlarge(opened))
                seconds = time.perf_counter() - start
            return self.write(opened, result, seconds)
        except Exception as error:
            return failure(error, item)


def commit(written: Written, item: Item, journal: Journal) -> None:
    """Note a result in the journal, then put it in its place: a note alone counts for nothing.

    Whatever ends the process, a file in its place is whole and known. Raises OutputError, OutputExistsError.
    """
    try:
        journal.append(written.record)
        for aside, target in written.moves:
            commit_file(aside, target, overwrite=item.replace)
    finally:
        discard(written.moves)


def discard(moves: list[tuple[Path, Path]] | tuple[tuple[Path, Path], ...]) -> None:
    """Remove files that wait beside their place."""
    for aside, _ in moves:
        remove_temporary(aside)


def failure(error: Exception, item: Item) -> Failure:
    """Make what one picture ended with something to show, while others go on."""
    cause = error.__cause__
    full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, EmtError):
        return Failure(error, full=full)
    if is_out_of_memory(error):
        return Failure(too_little_memory(str(item.source)))
    kind = type(error).__name__
    told = EmtError(f"{item.source}: {kind}: {error}; a mistake of the program, please report it")
    return Failure(told, trace="".join(traceback.format_exception(error)))
