"""Run a planned batch: note what is done, tell what happens."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Literal, TypeAlias

from emt_cli.errors import EmtError
from emt_cli.jobs.batch.folder import BatchFolder
from emt_cli.jobs.batch.local import (
    Ended,
    ItemEvent,
    Started,
    default_threads,
    places_for_pictures,
    room_for_pictures,
    run_locally,
)
from emt_cli.jobs.batch.plan import Batch, Item
from emt_cli.jobs.batch.stages import Failure, PictureWork, Written, commit, failure
from emt_cli.jobs.journal import Journal
from emt_cli.jobs.picture.job import PictureJob

Events: TypeAlias = Generator[ItemEvent, None, None]


@dataclass(frozen=True)
class BatchEvent:
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
class RunStats:
    """How a run went."""

    total: int = 0
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


def run_here(
    batch: Batch, job: PictureJob, into: BatchFolder, stop: Event, threads: int | None = None
) -> Events:
    """Enlarge a batch's pictures on this machine's devices; threads: that read, and that write."""
    threads = threads or default_threads(job.networks.devices)
    places = places_for_pictures(batch.items, job.networks)
    room = room_for_pictures(batch.items, len(places), threads)
    work = PictureWork(job, into)
    return run_locally(batch.items, work, places=places, threads=threads, room=room, stop=stop)


def run_batch(
    batch: Batch, into: BatchFolder, events: Iterable[ItemEvent], stop: Event, stats: RunStats
) -> Iterator[BatchEvent]:
    """Commit results as they come, and tell what happens; the stats is kept up to date.

    When the disk is full the run ends after the pictures under way; the first is told, others that do not fit
    count as left. What ends it otherwise, such as a cluster that is gone, is in the stats.
    """
    for left in batch.skipped:
        stats.skipped += 1
        output = None if left.target is None else str(left.target)
        yield BatchEvent("skipped", str(left.source), {"output": output, "reason": left.reason})
    for source, error in batch.failures:
        stats.failures.append((source, error))
        yield BatchEvent("failed", source, error=error)
    try:
        with into.journal() as journal:
            for event in events:
                if isinstance(event, Started):
                    yield BatchEvent("started", str(event.item.source), {"output": str(event.item.target)})
                elif isinstance(event, Ended):
                    stats.work += event.item.work
                    yield _settle(event.item, event.outcome, journal, stop, stats)
                else:
                    yield BatchEvent("progress", work=stats.work + event.work)
    except EmtError as error:
        stats.broken = error


def _settle(
    item: Item, outcome: Written | Failure | None, journal: Journal, stop: Event, stats: RunStats
) -> BatchEvent:
    source = str(item.source)
    if outcome is None:
        stats.skipped += 1
        return BatchEvent("skipped", source, {"output": str(item.target), "reason": "done"}, work=stats.work)
    if isinstance(outcome, Written):
        try:
            commit(outcome, item, journal)
        except EmtError as error:
            outcome = failure(error, item)
        else:
            stats.done += 1
            return BatchEvent("done", source, outcome.facts, work=stats.work)
    if outcome.full and stats.full:
        return BatchEvent("progress", work=stats.work)
    stats.failures.append((source, outcome.error))
    if outcome.full:
        stats.full = True
        stop.set()
    return BatchEvent("failed", source, error=outcome.error, trace=outcome.trace, work=stats.work)
