"""Pictures as they appear: whole files only, each version once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

from emt_cli.errors import UsageError
from emt_cli.jobs.batch.earlier_results import forget
from emt_cli.jobs.batch.find import Findings
from emt_cli.jobs.batch.plan import Batch

INTERVAL = 2.0
"""Seconds between two looks; a file is whole once neither size nor time has changed in between."""


class Watch:
    """Looks for pictures that are new, or have changed, since it was made."""

    def __init__(self, find: Callable[[], Findings], known: Findings, *, interval: float = INTERVAL) -> None:
        self.find, self.interval = find, interval
        self._taken = {found.path: _state(found.path) for found in known.pictures}

    def arrivals(self, stop: Event) -> Iterator[tuple[Findings, set[Path]]]:
        """Yield all that is found, and which of it is new and whole; until stop is set."""
        growing: dict[Path, tuple[int, int] | None] = {}
        while not stop.wait(self.interval):
            forget()
            findings = self.find()
            states = {found.path: _state(found.path) for found in findings.pictures}
            whole = {
                path: state
                for path, state in states.items()
                if state is not None and self._taken.get(path) != state and growing.get(path) == state
            }
            growing = states
            if whole:
                self._taken |= whole
                yield findings, set(whole)


def only(batch: Batch, new: set[Path]) -> Batch:
    """Reduce a plan of all pictures to the new ones; those whose results others have are failures."""
    failures = [(source, error) for source, error in batch.failures if Path(source) in new]
    taken = {source: str(target) for target, sources in batch.collisions for source in sources}
    for source in sorted(new & taken.keys()):
        error = UsageError(f"{source}: {taken[source]} is another picture's result; give it another name")
        failures.append((str(source), error))
    items = [item for item in batch.items if item.source in new and item.source not in taken]
    return Batch(items, failures, [one for one in batch.skipped if one.source in new])


def _state(path: Path) -> tuple[int, int] | None:
    """Return a file's size and time; None for one that is empty or gone."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return (facts.st_size, facts.st_mtime_ns) if facts.st_size else None
