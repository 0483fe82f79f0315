"""Stages of threads joined by pipes: all at work at once, in bounded memory; a failure in one ends all."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures import wait as futures_wait
from contextlib import closing
from threading import Condition, Event, Lock, Thread
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Read = TypeVar("Read")
Output = TypeVar("Output")

POLL_INTERVAL = 0.2
"""Seconds after which a waiting thread looks up, so that signals are heard on every system."""


class _EndedError(Exception):
    """Tells threads that nobody wants more."""


class Pipe(Generic[Item]):
    """A queue between threads that holds items up to a sum of sizes, but always at least one.

    Sizes are bytes, or 1 to count items; what is put without one always has room.
    """

    def __init__(self, limit: int = 0) -> None:
        self.limit = limit
        self._items: deque[tuple[Item, int]] = deque()
        self._size = 0
        self._closed = False
        self._error: BaseException | None = None
        self._changed = Condition()

    def put(self, item: Item, size: int = 0) -> None:
        """Add an item of this size once there is room; raises the error of whoever failed."""
        with self._changed:
            while self._error is None and self._items and self._size + size > self.limit:
                self._changed.wait(POLL_INTERVAL)
            self.check()
            self._items.append((item, size))
            self._size += size
            self._changed.notify_all()

    def close(self) -> None:
        """Say that nothing more will come."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """End both ends with an error, at once; the first one counts."""
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()

    def check(self) -> None:
        """Raise the error of whoever failed, if anybody did."""
        if self._error is not None:
            raise self._error

    def take(self, choose: Callable[[list[Item]], int]) -> list[Item]:
        """Take as many of the waiting items as choose(them) says, without waiting."""
        with self._changed:
            count = choose([item for item, _ in self._items])
            return [self._next() for _ in range(count)]

    def polled(self) -> Iterator[Item | None]:
        """Take items until the pipe is closed and empty, and None whenever there was none for a while.

        Raises the error of whoever failed.
        """
        while True:
            with self._changed:
                if self._error is None and not self._items and not self._closed:
                    self._changed.wait(POLL_INTERVAL)
                self.check()
                if not self._items and self._closed:
                    return
                taken = [self._next()] if self._items else []
            yield taken.pop() if taken else None  # and nothing is held while waiting

    def __iter__(self) -> Iterator[Item]:
        """Take items until the pipe is closed and empty; raises the error of whoever failed."""
        return filter(lambda item: item is not None, self.polled())  # type: ignore[arg-type]

    def _next(self) -> Item:
        item, size = self._items.popleft()
        self._size -= size
        self._changed.notify_all()
        return item


class Stages:
    """Threads in stages; each stage fills a pipe, which is closed when the last of its threads has ended."""

    def __init__(self) -> None:
        self._pipes: list[Pipe[Any]] = []
        self._threads: list[Thread] = []

    def start(self, name: str, works: Sequence[Callable[[], None]], out: Pipe[Any]) -> None:
        """Start a stage, each work in a thread; an error in one fails the pipes of all stages."""
        left, lock = [len(works)], Lock()
        self._pipes.append(out)

        def run(work: Callable[[], None]) -> None:
            try:
                work()
            except BaseException as error:
                self.fail(error)
                return
            with lock:
                left[0] -= 1
            if not left[0]:
                out.close()

        for number, work in enumerate(works):
            self._threads.append(Thread(target=run, args=(work,), name=f"{name}-{number}", daemon=True))
            self._threads[-1].start()

    def fail(self, error: BaseException) -> None:
        """End all stages with an error."""
        for pipe in self._pipes:
            pipe.fail(error)

    def join(self) -> None:
        """Wait for all threads."""
        for thread in self._threads:
            thread.join()


def run_in_order(
    read: Generator[Read, None, None],
    submit: Callable[[Executor, Read], Future[Output]],
    write: Callable[[Iterator[tuple[Read, Output]]], None],
    *,
    workers: int,
    limit: int,
    size: Callable[[Read], int],
    stop: Event,
) -> Generator[Read, None, bool]:
    """Pass all that is read through the workers to the writer, in order; yield each item handed to it.

    Reading and writing have a thread each. submit(executor, item) returns the future of what an item becomes,
    which may be one returned before; write gets an iterator that lasts until the end. limit: bytes that may
    wait before the workers, by the size of each item; after them as many may wait as there are workers.

    An error in any thread is raised here after all of them have ended. When stop is set, items begun are
    finished and written, no more. Returns whether everything was done.
    """
    before: Pipe[Read] = Pipe(limit)
    submitted: Pipe[tuple[Read, Future[Output]]] = Pipe(workers)
    written: Pipe[Read] = Pipe(1)
    stages, stopped = Stages(), Event()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="emt-work")

    def fill() -> None:
        with closing(read):
            for item in read:
                before.put(item, size(item))

    def hand_over() -> None:
        for item in before:
            if stop.is_set():
                stopped.set()
                return
            submitted.put((item, submit(pool, item)), 1)

    def outputs() -> Iterator[tuple[Read, Output]]:
        for item, future in submitted:
            while not future.done():
                if stop.is_set() and future.cancel():
                    stopped.set()
                    return
                futures_wait([future], POLL_INTERVAL)
                submitted.check()
            written.put(item, 1)
            yield item, future.result()

    try:
        stages.start("emt-read", [fill], before)
        stages.start("emt-submit", [hand_over], submitted)
        stages.start("emt-write", [lambda: write(outputs())], written)
        yield from written
        return not stopped.is_set()
    finally:
        stages.fail(_EndedError())
        pool.shutdown(cancel_futures=True)
        stages.join()
