"""Run a planned batch: hold its output folder, note what is done, tell what happens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, Literal

from emt_cli.errors import EmtError
from emt_cli.jobs.batch.local import Ended, Happening, Started
from emt_cli.jobs.batch.plan import Batch, Item, Shard
from emt_cli.jobs.batch.stages import Failure, Written, commit, failure, remove_leftovers
from emt_cli.jobs.journal import Journal
from emt_cli.lock import lock


@dataclass(frozen=True)
class News:
    """Something that happened to a picture, or (progress) to the whole."""

    kind: Literal["started", "done", "skipped", "failed", "progress"]
    source: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    """JSON values: of a result, or why it was skipped."""
    error: EmtError | None = None
    trace: str | None = None
    work: float = 0.0
    """Network pixels done so far."""


@dataclass
class Tally:
    """How a run went."""

    total: int
    """Pictures of the run."""
    done: int = 0
    skipped: int = 0
    failures: list[tuple[str, EmtError]] = field(default_factory=list)
    work: int = 0
    """Network pixels that are through."""
    seconds: float = 0.0
    full: bool = False
    """Whether the disk was full, so that the rest was not tried."""
    broken: EmtError | None = None
    """What ended the whole run."""

    @property
    def ended(self) -> int:
        """Pictures that are through, in one way or another."""
        return self.done + self.skipped + len(self.failures)

    @property
    def left(self) -> int:
        """Pictures that were not come to."""
        return self.total - self.ended


def tag_of(shard: Shard) -> str:
    """Return what the names of a run's files have in them."""
    return f"{shard.number}of{shard.of}"


@contextlib.contextmanager
def held(output: Path, shard: Shard) -> Iterator[None]:
    """Hold an output folder for one run: parts of one sharding go together, other runs do not.

    What killed runs left waiting is removed. Raises UsageError when another run is at work there.
    """
    busy = f"{output}: another run is at work in this folder; wait for it, or choose another -o"
    own = output / f".emt-batch-{tag_of(shard)}.lock"
    with contextlib.ExitStack() as stack:
        with lock(output / ".emt-batch.gate", busy=busy, wait=True):
            for other in output.glob(".emt-batch-*.lock"):
                if other.stem.rpartition("of")[2] != str(shard.of):
                    with lock(other, busy=busy):
                        pass  # left by a run that was killed
            stack.enter_context(lock(own, busy=busy))
        remove_leftovers(output, tag_of(shard) if shard.of > 1 else None)
        yield


def run_batch(
    batch: Batch, output: Path, shard: Shard, happenings: Iterable[Happening], stop: Event, tally: Tally
) -> Iterator[News]:
    """Commit results as they come, and tell what happens; the tally is kept up to date.

    When the disk is full the run ends after the pictures under way. What ends it otherwise, such as a cluster
    that is gone, is in the tally.
    """
    for item in batch.skipped:
        tally.skipped += 1
        yield News("skipped", str(item.source), {"output": str(item.target), "reason": "exists"})
    for source, error in batch.failures:
        tally.failures.append((source, error))
        yield News("failed", source, error=error)
    try:
        with Journal(output / f".emt-batch-{tag_of(shard)}.jsonl") as journal:
            for happening in happenings:
                if isinstance(happening, Started):
                    yield News("started", str(happening.item.source), {"output": str(happening.item.target)})
                elif isinstance(happening, Ended):
                    tally.work += happening.item.work
                    yield _settle(happening.item, happening.outcome, journal, stop, tally)
                else:
                    yield News("progress", work=tally.work + happening.work)
    except EmtError as error:
        tally.broken = error


def _settle(
    item: Item, outcome: Written | Failure | None, journal: Journal, stop: Event, tally: Tally
) -> News:
    source = str(item.source)
    if outcome is None:
        tally.skipped += 1
        return News("skipped", source, {"output": str(item.target), "reason": "done"}, work=tally.work)
    if isinstance(outcome, Written):
        try:
            commit(outcome, item, journal)
        except EmtError as error:
            outcome = failure(error, item)
        else:
            tally.done += 1
            return News("done", source, outcome.facts, work=tally.work)
    tally.failures.append((source, outcome.error))
    if outcome.full:
        tally.full = True
        stop.set()
    return News("failed", source, error=outcome.error, trace=outcome.trace, work=tally.work)
