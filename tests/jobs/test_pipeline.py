"""The three-stage pipeline: order, overlap, bounded memory, and an end without hanging whatever fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from emt_cli.jobs.pipeline import Pipe, run_pipeline


def numbers(count: int, error_at: int | None = None) -> Generator[int, None, None]:
    for number in range(count):
        if number == error_at:
            raise OSError("reading failed")
        yield number


def pipeline(
    read: Generator[int, None, None],
    work: Callable[[int], int],
    write: Callable[[Iterator[tuple[int, int]]], None],
    stop: threading.Event | None = None,
    **settings: Any,
) -> Generator[int, None, bool]:
    def submit(executor: Executor, item: int) -> Future[int]:
        return executor.submit(work, item)

    values = {"workers": 1, "limit": 4, "read_size": lambda _: 1, "output_size": lambda _: 1} | settings
    return run_pipeline(read, submit, write, stop=stop or threading.Event(), **values)


def drained(made: Iterator[tuple[int, int]]) -> None:
    for _ in made:
        pass


def finished(steps: Generator[int, None, bool]) -> bool:
    """Run all steps; return what the pipeline returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return bool(end.value)


def threads_left() -> list[str]:
    return [
        thread.name
        for thread in threading.enumerate()
        if thread.name.startswith(("emt-read", "emt-write", "emt-work"))
    ]


@pytest.mark.parametrize("workers", [1, 3])
def test_everything_arrives_in_order_whatever_the_workers_speed(workers: int) -> None:
    written: list[tuple[int, int]] = []

    def work(item: int) -> int:
        time.sleep(0.01 * (3 - item % 4))
        return item * item

    steps = list(pipeline(numbers(20), work, written.extend, workers=workers))

    assert steps == list(range(20))
    assert written == [(number, number * number) for number in range(20)]
    assert threads_left() == []


def test_reading_stays_within_its_limit_ahead_of_the_work() -> None:
    read, most = 0, 0

    def counted() -> Generator[int, None, None]:
        nonlocal read
        for number in range(40):
            read += 1
            yield number

    def work(item: int) -> int:
        nonlocal most
        time.sleep(0.002)
        most = max(most, read - item)
        return item

    list(pipeline(counted(), work, drained, limit=3))

    assert 2 < most <= 3 + 1 + 3  # in the pipe, in the reader's hand, submitted


def test_several_workers_work_at_the_same_time() -> None:
    together = threading.Barrier(3, timeout=10)

    list(pipeline(numbers(3), lambda item: together.wait(), drained, workers=3))


@pytest.mark.parametrize("where", ["read", "work", "write", "end of write"])
def test_an_error_anywhere_comes_out_and_leaves_no_thread(where: str) -> None:
    def work(item: int) -> int:
        if where == "work" and item == 7:
            raise OSError("working failed")
        return item

    def write(made: Iterator[tuple[int, int]]) -> None:
        for item, _ in made:
            if where == "write" and item == 7:
                raise OSError("writing failed")
        if where == "end of write":
            raise OSError("ending failed")

    with pytest.raises(OSError, match="failed"):
        list(pipeline(numbers(1000, 7 if where == "read" else None), work, write))

    assert threads_left() == []


def test_a_stop_finishes_what_was_begun_and_writes_it() -> None:
    stop, written = threading.Event(), []

    def work(item: int) -> int:
        if item == 5:
            stop.set()
            time.sleep(0.05)
        return item

    all_done = finished(
        pipeline(numbers(1000), work, lambda made: written.extend(item for item, _ in made), stop)
    )

    assert not all_done
    assert 5 in written
    assert written == list(range(len(written)))
    assert len(written) < 12
    assert threads_left() == []


def test_a_stop_after_the_last_item_is_no_stop() -> None:
    stop = threading.Event()

    def write(made: Iterator[tuple[int, int]]) -> None:
        drained(made)
        stop.set()

    assert finished(pipeline(numbers(3), lambda item: item, write, stop))


def test_leaving_early_ends_the_threads() -> None:
    closed = threading.Event()

    def endless() -> Generator[int, None, None]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    steps = pipeline(endless(), lambda item: item, drained)
    next(steps)
    steps.close()

    assert closed.is_set()
    assert threads_left() == []


def test_a_pipe_takes_one_item_larger_than_its_limit() -> None:
    pipe: Pipe[str] = Pipe(10)

    pipe.put("large", 1000)
    pipe.close()

    assert list(pipe) == ["large"]
