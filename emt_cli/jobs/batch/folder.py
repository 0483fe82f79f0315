"""The output folder of a batch: who is at work there, what is done, what waits to get its place."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from pathlib import Path
from typing import Any

from emt_cli.errors import OutputError, UsageError
from emt_cli.jobs.journal import Journal, content_hash, read_journal
from emt_cli.lock import lock

JOURNALS = ".emt-batch*.jsonl"
"""Names of the journals of `emt batch` in an output folder."""


@dataclass(frozen=True)
class Shard:
    """One of several equal parts of a batch, 1 to `of`; the part of a picture depends on its path alone."""

    number: int = 1
    of: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.of:
            raise UsageError(
                f"--shard {self.number}/{self.of}: count from 1/{self.of} to {self.of}/{self.of}"
            )

    def takes(self, path: str) -> bool:
        """Whether a path belongs to this part."""
        digest = hashlib.sha256(path.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % self.of == self.number - 1


class BatchFolder:
    """The folder a run writes its shard of a batch to; it holds the journal of what is done, too."""

    def __init__(self, path: Path, shard: Shard = Shard()) -> None:
        self.path, self.shard = path, shard
        self._tag = f"{shard.number}of{shard.of}"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the folder for one run: parts of one sharding go together, other runs do not.

        What killed runs left waiting is removed. Raises UsageError when another run is at work there.
        """
        busy = f"{self.path}: another run is at work in this folder; wait for it, or choose another -o"
        with contextlib.ExitStack() as stack:
            with lock(self.path / ".emt-batch.gate", busy=busy, wait=True):
                for other in self.path.glob(".emt-batch-*.lock"):
                    if other.stem.rpartition("of")[2] != str(self.shard.of):
                        with lock(other, busy=busy):
                            pass  # left by a run that was killed
                stack.enter_context(lock(self.path / f".emt-batch-{self._tag}.lock", busy=busy))
            self.remove_leftovers()
            yield

    def journal(self) -> Journal:
        """Open the journal of this shard; raises OutputError."""
        return Journal(self.path / f".emt-batch-{self._tag}.jsonl")

    def records(self) -> list[dict[str, Any]]:
        """Return what all journals say of results, oldest first; OutputError if one is unreadable.

        Within a journal its own order counts: the clock may have been set back.
        """
        records: list[tuple[float, dict[str, Any]]] = []
        for journal in sorted(self.path.glob(JOURNALS)) if self.path.is_dir() else []:
            latest = 0.0
            for record in filter(_holds_together, read_journal(journal)):
                latest = max(latest, float(record["time"]))
                records.append((latest, record))
        return [record for _, record in sorted(records, key=itemgetter(0))]

    def results(self) -> set[str]:
        """Return the canonical paths of the results that the journals know."""
        return {canonical(self.path / file["path"]) for record in self.records() for file in record["files"]}

    def is_own(self, target: Path, record: dict[str, Any]) -> bool:
        """Whether a file is what a record says was written there: its size and time, or its content."""
        place = canonical(target)
        file = next((one for one in record["files"] if canonical(self.path / one["path"]) == place), None)
        try:
            facts = target.stat()
            if file is None or not target.is_file() or facts.st_size != file["size"]:
                return False
            return bool(facts.st_mtime_ns == file["time"]) or content_hash(target) == file["sha256"]
        except OSError:
            return False

    def waiting_name(self, token: str | None = None) -> str:
        """Return a name for a result that waits to be journaled and put in its place."""
        return f".emt-batch-{self._tag}-{token or secrets.token_hex(8)}.tmp"

    def remove_leftovers(self) -> None:
        """Remove results that ended runs left waiting: of this shard, or of all when it is the only one."""
        names = self.waiting_name("*") if self.shard.of > 1 else ".emt-batch-*-*.tmp"
        for path in self.path.rglob(names):
            with contextlib.suppress(OSError):  # the next run may succeed
                path.unlink()

    def free(self) -> int:
        """Bytes free on the disk the folder is on, or will be on; raises OutputError where there is none."""
        place = self.path.absolute()
        for folder in (place, *place.parents):
            if folder.exists():
                return shutil.disk_usage(folder).free
        raise OutputError(f"{self.path}: there is no such disk; choose another place")


def canonical(path: Path) -> str:
    """Return one spelling for all ways to a file; a link to a file is a file of its own."""
    return str(_resolved(path.parent.absolute()) / path.name)


@lru_cache(maxsize=1 << 16)
def _resolved(folder: Path) -> Path:
    return Path(os.path.realpath(folder))  # which stands circles of links


def _holds_together(record: dict[str, Any]) -> bool:
    """Tell whether a record has the form in which a batch writes them."""
    files, time = record.get("files"), record.get("time")
    if not isinstance(files, list) or type(time) is not float or not isinstance(record.get("source"), dict):
        return False
    return isinstance(record.get("name"), str) and all(map(_is_file, files))


def _is_file(value: Any) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("path"), str):
        return False
    try:
        return b"\0" not in os.fsencode(value["path"]) and {"size", "time", "sha256"} <= value.keys()
    except UnicodeEncodeError:
        return False
