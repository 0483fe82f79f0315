"""Read, compute and write at the same time, in order and bounded memory; a failure anywhere ends it all."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from concurrent.futures import wait as futures_wait
from contextlib import closing
from threading import Condition, Event, Thread
from typing import Generic, TypeVar

Item = TypeVar("Item")
Read = TypeVar("Read")
Output = TypeVar("Output")

_POLL_INTERVAL = 0.2
"""Seconds after which a waiting thread looks up, so that signals are heard on every system."""


class _EndedError(Exception):
    """Tells the reading thread that nobody wants more."""


class Pipe(Generic[Item]):
    """A queue between two threads that holds a bounded number of bytes, but always at least one item."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._items: deque[tuple[Item, int]] = deque()
        self._bytes = 0
        self._closed = False
        self._error: BaseException | None = None
        self._changed = Condition()

    def put(self, item: Item, size: int) -> None:
        """Add an item of so many bytes once there is room; raises the error of whoever failed."""
        with self._changed:
            while self._error is None and self._items and self._bytes + size > self.limit:
                self._changed.wait(_POLL_INTERVAL)
            if self._error is not None:
                raise self._error
            self._items.append((item, size))
            self._bytes += size
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

    def __iter__(self) -> Iterator[Item]:
        """Take items until the pipe is closed and empty; raises the error of whoever failed."""
        while True:
            with self._changed:
                while self._error is None and not self._items and not self._closed:
                    self._changed.wait(_POLL_INTERVAL)
                if self._error is not None:
                    raise self._error
                if not self._items:
                    return
                item, size = self._items.popleft()
                self._bytes -= size
                self._changed.notify_all()
            yield item


def run_pipeline(
    read: Generator[Read, None, None],
    submit: Callable[[Executor, Read], Future[Output]],
    write: Callable[[Iterator[tuple[Read, Output]]], None],
    *,
    workers: int,
    limit: int,
    read_size: Callable[[Read], int],
    output_size: Callable[[Output], int],
    stop: Event,
) -> Generator[Read, None, bool]:
    """Pass all that is read through the workers to the writer, in order; yield each item handed to it.

    Reading and writing have a thread each. submit(executor, item) returns the future of what an item becomes,
    which may be one returned before; write gets an iterator that lasts until the end. limit: bytes that may
    wait before the workers, and after them.

    An error in any thread is raised here after all of them have ended. When stop is set, items begun are
    finished and written, no more. Returns whether everything was done.
    """
    before: Pipe[Read] = Pipe(limit)
    after: Pipe[tuple[Read, Output]] = Pipe(limit)
    reader = Thread(target=_fill, args=(read, before, read_size), name="emt-read", daemon=True)
    writer = Thread(target=_empty, args=(write, after), name="emt-write", daemon=True)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="emt-work")
    waiting: deque[tuple[Read, Future[Output]]] = deque()

    def hand_over() -> Read:
        item, future = waiting.popleft()
        while not future.done():
            futures_wait([future], _POLL_INTERVAL)
        made = future.result()
        after.put((item, made), output_size(made))
        return item

    try:
        reader.start()
        writer.start()
        stopped = False
        for item in before:
            if stopped := stop.is_set():
                break
            waiting.append((item, submit(pool, item)))
            while waiting and (len(waiting) > workers + 1 or waiting[0][1].done()):
                yield hand_over()
        while waiting and not (stop.is_set() and waiting[0][1].cancel()):
            yield hand_over()
        after.close()
        while writer.is_alive():
            writer.join(_POLL_INTERVAL)
        after.check()
        return not (stopped or waiting)
    except BaseException as error:
        after.fail(error)
        raise
    finally:
        before.fail(_EndedError())
        pool.shutdown(cancel_futures=True)
        for thread in (reader, writer):
            if thread.ident is not None:
                thread.join()


def _fill(read: Generator[Read, None, None], pipe: Pipe[Read], size: Callable[[Read], int]) -> None:
    """Put all that is read into a pipe."""
    try:
        with closing(read):
            for item in read:
                pipe.put(item, size(item))
        pipe.close()
    except BaseException as error:
        pipe.fail(error)


def _empty(write: Callable[[Iterator[Item]], None], pipe: Pipe[Item]) -> None:
    """Write all that comes out of a pipe."""
    try:
        write(iter(pipe))
    except BaseException as error:
        pipe.fail(error)
