"""Long work as generators: each yields the share done, from 0 to 1, and returns its result."""

from __future__ import annotations

from collections.abc import Callable, Generator
from threading import Event
from typing import TypeAlias, TypeVar

from emt_cli.errors import StoppedError

Result = TypeVar("Result")
Steps: TypeAlias = Generator[float, None, Result]


def finish(
    steps: Steps[Result], report: Callable[[float], None] | None = None, stop: Event | None = None
) -> Result:
    """Run steps to their end, reporting each share done; return their result.

    Raises StoppedError at the next step after stop is set.
    """
    while True:
        if stop is not None and stop.is_set():
            steps.close()
            raise StoppedError("stopped")
        try:
            share = next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
        if report is not None:
            report(share)


def part(steps: Steps[Result], begin: float, end: float) -> Steps[Result]:
    """Run steps as one part of larger work, from share begin to share end of it."""
    while True:
        try:
            share = next(steps)
        except StopIteration as stop:
            result: Result = stop.value
            return result
        yield begin + share * (end - begin)
