"""Stages of threads and the pipes between them: order, bounded memory, an end without hanging in any case."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Executor, Future
from typing import Any

import pytest

from emt_cli.jobs.pipeline import Pipe, Stages, run_in_order


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

    values = {"workers": 1, "limit": 4, "size": lambda _: 1} | settings
    return run_in_order(read, submit, write, stop=stop or threading.Event(), **values)


def drained(made: Iterable[object]) -> None:
    for _ in made:
        pass


def put_numbers(pipe: Pipe[int]) -> None:
    for number in range(9):
        pipe.put(number)


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
        if thread.name.startswith(("emt-read", "emt-submit", "emt-write", "emt-work"))
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

    assert 2 < most <= 3 + 1 + 1 + 1 + 1  # in both pipes, and in the hands of reader, submitter and writer


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


def test_what_was_taken_is_held_by_nobody_while_the_next_is_awaited() -> None:
    class Picture:
        pass

    pipe: Pipe[Picture] = Pipe()
    pipe.put(Picture())
    polled = pipe.polled()
    taken = weakref.ref(next(polled) or pipe)

    assert next(polled) is None  # for a while there is nothing
    assert taken() is None


def test_a_stage_goes_on_until_the_last_of_its_threads_has_ended() -> None:
    first, second = Pipe[int](), Pipe[int]()
    stages, slow = Stages(), threading.Event()

    def pass_on() -> None:
        for item in first:
            if item == 3:
                slow.wait(10)
            second.put(item)

    stages.start("emt-read", [lambda: put_numbers(first)], first)
    stages.start("emt-work", [pass_on] * 3, second)
    passed = [next(iter(second)) for _ in range(8)]
    slow.set()

    assert sorted(passed + list(second)) == list(range(9))
    stages.join()
    assert threads_left() == []


def test_a_failure_in_one_of_several_threads_ends_all() -> None:
    first, second = Pipe[int](), Pipe[int]()
    stages = Stages()

    def fail() -> None:
        raise OSError("working failed")

    stages.start("emt-read", [lambda: put_numbers(first)], first)
    stages.start("emt-work", [lambda: drained(first), fail, lambda: drained(first)], second)

    with pytest.raises(OSError, match="working failed"):
        list(second)
    stages.join()
    assert threads_left() == []
