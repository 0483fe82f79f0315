"""A video job on disk: the parts it is made in, and the folder beside the output that holds finished ones."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from emt_cli.errors import InputError, OutputError, UsageError
from emt_cli.jobs.journal import Journal, content_hash, file_state, read_journal
from emt_cli.lock import lock

FORMAT = 1
"""Of the journal."""
_JOURNAL, _LOCK = "journal.jsonl", "lock"
LONGEST_NAME = 255
"""Bytes of a file's name."""
_PIXELS = 1 << 24
"""Input pixels of a segment, about: a minute of work for a CPU with the bundled model."""
_FEWEST, _MOST = 24, 240
"""Frames of a segment at least and at most."""


@dataclass(frozen=True)
class Segment:
    """Frames that are made and kept together: those with start <= PTS < end, in the source's time base."""

    index: int
    start: int | None
    """None is the beginning of the source."""
    end: int | None
    """None is its end."""
    times: tuple[int, ...]
    """PTS of the frames that ought to be in it."""


def segment_length(height: int, width: int) -> int:
    """Return how many frames of this size a segment has: the same in every run."""
    return max(_FEWEST, min(_MOST, _PIXELS // (height * width)))


def plan_segments(
    times: Sequence[int], length: int, *, start: int | None = None, end: int | None = None
) -> list[Segment]:
    """Cut frames, given by their PTS in order, into segments of `length` that last from start to end."""
    firsts = range(0, len(times), length)
    return [
        Segment(
            index,
            start if index == 0 else times[first],
            times[first + length] if first + length < len(times) else end,
            tuple(times[first : first + length]),
        )
        for index, first in enumerate(firsts)
    ]


def pending_runs(segments: Sequence[Segment], done: Mapping[int, Any]) -> list[list[Segment]]:
    """Return the segments still to be made, neighbours together: each run is read in one go."""
    runs: list[list[Segment]] = []
    for segment in segments:
        if segment.index in done:
            continue
        if runs and runs[-1][-1].index == segment.index - 1:
            runs[-1].append(segment)
        else:
            runs.append([segment])
    return runs


@dataclass(frozen=True)
class Done:
    """What a finished segment holds."""

    times: tuple[int, ...]
    """PTS of its frames in the source's time base."""
    files: dict[str, str]
    """Name of the file with its frames, by what the file is for; none for a segment without frames."""
    computed: int
    """Frames that went through the network; the others were duplicates."""
    damage: tuple[str, ...]
    """What the decoder lost on the way, in words."""
    notes: tuple[str, ...] = ()


class WorkFolder:
    """The folder of an unfinished job: a file for each finished segment, and the journal of them."""

    def __init__(
        self,
        folder: Path,
        journal: Journal,
        start: dict[str, Any],
        done: dict[int, Done],
        check: Callable[[], None],
    ) -> None:
        self.folder, self.journal, self.start, self.done, self.check = folder, journal, start, done, check

    def files(self, kind: str) -> list[Path]:
        """Return the files of finished segments in order, for one kind of result."""
        return [
            self.folder / self.done[index].files[kind]
            for index in sorted(self.done)
            if kind in self.done[index].files
        ]

    def finish(self, segment: Segment, done: Done) -> None:
        """Note that a segment is finished and its files are on the disk; raises OutputError, or as check."""
        self.check()
        record = {"segment": segment.index, **vars(done), "sha256": self._hashes(done.files)}
        self.journal.append(record)
        self.done[segment.index] = done

    def note_result(self, path: Path) -> None:
        """Note that a file is the whole result, about to get its name: the work is then done with."""
        self.journal.append({"result": file_state(path)})

    def clear(self) -> None:
        """Remove all files but the lock; the folder itself goes when its lock does."""
        _remove_others(self.folder, {_LOCK})

    def _hashes(self, files: Mapping[str, str]) -> dict[str, str]:
        return {kind: content_hash(self.folder / name) for kind, name in files.items()}


def segment_file(folder: Path, segment: Segment, kind: str, suffix: str) -> Path:
    """Return where the frames of a segment go in a folder of work, for one kind of result."""
    return folder / f"{kind}-{segment.index:06d}{suffix}"


def shortened(name: str, most: int) -> str:
    """Return as much of a name as so many bytes hold."""
    return os.fsencode(name)[:most].decode(errors="ignore") if len(os.fsencode(name)) > most else name


def work_path(target: Path) -> Path:
    """Return the folder of unfinished work for a result, under a name that is not too long."""
    name = f".{target.name}.emt-work"
    if len(os.fsencode(name)) > LONGEST_NAME:
        name = f".{hashlib.sha256(os.fsencode(target.name)).hexdigest()}.emt-work"
    return target.with_name(name)


def unverified_path(target: Path, *, overwrite: bool) -> Path:
    """Return the name of a result that failed its verification: NAME.unverified.EXT, or -2 if it is taken."""
    for number in itertools.count(1):
        ending = f".unverified{f'-{number}' if number > 1 else ''}{target.suffix}"
        path = target.with_name(shortened(target.stem, LONGEST_NAME - len(os.fsencode(ending))) + ending)
        if overwrite or not path.exists():
            break
    return path


@contextlib.contextmanager
def work_folder(
    target: Path,
    key: Mapping[str, Any],
    extra: Mapping[str, int],
    *,
    restart: bool,
    count: int,
    check: Callable[[], None] = lambda: None,
) -> Iterator[WorkFolder]:
    """Open the folder of unfinished work for a result, and hold it; nobody else can meanwhile.

    key: everything that decides what the result is. Work of the same key is gone on with; segments whose
    files are damaged or missing are forgotten. extra: noted at the start of new work, and found again in
    `start` when it is gone on with. count: segments of the whole job. check: raises an error where the
    source is not what it was, whose segments are not noted then. Raises UsageError when work of another
    key is there and `restart` was not asked for, or another process is at work; OutputError when the folder
    cannot be written.
    """
    folder = work_path(target)
    busy = f"{target}: another emt is making it; wait for it, or choose another name with -o"
    key = json.loads(json.dumps(key))
    with contextlib.ExitStack() as stack:
        stack.callback(_remove_if_empty, folder)
        stack.enter_context(lock(folder / _LOCK, busy=busy))
        try:
            records = read_journal(folder / _JOURNAL)
            start = next((record for record in records if _is_start(record, extra)), None)
            if start is not None and (start.get("format"), start["key"]) != (FORMAT, key):
                if not restart:
                    other = _difference(start["key"], key)
                    raise UsageError(
                        f"{target}: unfinished work with {other} lies in {folder.name};"
                        " give the same options to go on with it, or -y to begin again"
                    )
                start = None
            done = {} if start is None else _whole(folder, records, count)
            keep = {name for segment in done.values() for name in segment.files.values()}
            _remove_others(folder, {_LOCK, *keep, *([_JOURNAL] if start else [])})
            journal = stack.enter_context(Journal(folder / _JOURNAL))
            if start is None:
                start = {"format": FORMAT, "key": key, **extra}
                journal.append(start)
        except OSError as error:
            raise OutputError(
                f"{folder}: cannot be used ({error.strerror or error}); choose another place with -o"
            ) from error
        work = WorkFolder(folder, journal, start, done, check)
        try:
            yield work
        finally:
            if not work.done:
                work.clear()


def remove_done_work(target: Path) -> None:
    """Remove the work of a result whose process was killed between giving it its name and tidying up."""
    folder, result = work_path(target), file_state(target)
    if result is None or not folder.is_dir():
        return
    with contextlib.suppress(UsageError, OutputError, OSError), lock(folder / _LOCK, busy=str(target)):
        if {"result": list(result)} in read_journal(folder / _JOURNAL):
            _remove_others(folder, {_LOCK})
    _remove_if_empty(folder)


def input_hash(path: Path) -> str:
    """Return the SHA-256 of the source; raises InputError."""
    try:
        return content_hash(path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror or error}); check path and permissions"
        ) from error


def _is_start(record: Mapping[str, Any], extra: Mapping[str, int]) -> bool:
    """Tell whether a record can be the one that begins a journal."""
    noted = all(type(record.get(name)) is int and record[name] >= 0 for name in extra)
    return isinstance(record.get("key"), dict) and noted


def _whole(folder: Path, records: Sequence[dict[str, Any]], count: int) -> dict[int, Done]:
    """Return the finished segments whose files are still what they were; the last record of each counts."""
    latest = {record["segment"]: record for record in records if type(record.get("segment")) is int}
    done = {}
    for index, record in sorted(latest.items()):
        segment, hashes = _read(record), record.get("sha256")
        if segment is None or not isinstance(hashes, dict) or not 0 <= index < count:
            continue
        paths = {kind: folder / name for kind, name in segment.files.items()}
        if all(path.is_file() and content_hash(path) == hashes.get(kind) for kind, path in paths.items()):
            done[index] = segment
    return done


def _read(record: Mapping[str, Any]) -> Done | None:
    """Read what a record says of a segment; None where that is nothing a job has written."""
    files, times, computed = record.get("files"), record.get("times"), record.get("computed")
    damage, notes = record.get("damage"), record.get("notes")
    if not isinstance(files, dict) or not all(map(_is_name, files.values())) or type(computed) is not int:
        return None
    if not isinstance(times, list) or not all(type(time) is int for time in times):
        return None
    if not isinstance(damage, list) or not isinstance(notes, list):
        return None
    return Done(tuple(times), dict(files), computed, tuple(map(str, damage)), tuple(map(str, notes)))


def _is_name(value: object) -> bool:
    """Tell whether a value is a file's name that stays in its folder."""
    return isinstance(value, str) and re.fullmatch(r"[\w-]+(\.\w+)?", value) is not None


def _difference(there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Say in words what differs between the settings of two jobs."""
    names = [name for name in {**there, **now} if there.get(name) != now.get(name)]
    if not names:
        return "another version of emt"
    if names[0] == "input":
        return "another input of this name"
    words = [
        name if isinstance(now.get(name), dict) else f"{name} {_value(there.get(name))}" for name in names
    ]
    return "other settings (" + ", ".join(words) + ")"


def _value(value: Any) -> str:
    if isinstance(value, str) and len(value) == 64:
        return "others"
    return "unset" if value is None else str(value)


def _remove_others(folder: Path, keep: set[str]) -> None:
    for path in folder.iterdir():
        if path.name not in keep and path.is_file():
            path.unlink()


def _remove_if_empty(folder: Path) -> None:
    """Remove a folder that has nothing in it but, on Windows, a lock nobody holds."""
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            (folder / _LOCK).unlink(missing_ok=True)
        folder.rmdir()
