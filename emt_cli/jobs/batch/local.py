"""Run a batch on this machine: files are read, enlarged and written at the same time, in bounded memory."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Condition, Event, Lock
from typing import TypeAlias

from emt_cli.cores import cpu_threads
from emt_cli.engine.device import Device, device_type
from emt_cli.engine.memory import spare_memory
from emt_cli.jobs.batch.plan import Item
from emt_cli.jobs.batch.stages import Failure, Opened, PictureWork, Written, discard, failure
from emt_cli.jobs.networks import Networks
from emt_cli.jobs.pipeline import POLL_INTERVAL, Pipe, Stages
from emt_cli.media.picture.io import Picture


@dataclass(frozen=True)
class Started:
    """A picture is being enlarged."""

    item: Item


@dataclass(frozen=True)
class Ended:
    """A picture is through; None stands for one that was done already."""

    item: Item
    outcome: Written | Failure | None


@dataclass(frozen=True)
class Tick:
    """Network pixels of the pictures being enlarged that are done."""

    work: float


ItemEvent: TypeAlias = Started | Ended | Tick


class Room:
    """Memory and places for pictures under way; one that is larger than all of it gets in alone."""

    def __init__(self, limit: int, places: int) -> None:
        self.limit, self.places = limit, places
        self._bytes = self._count = 0
        self._changed = Condition()

    def take(self, size: int, stop: Event) -> bool:
        """Wait for room; False when the run is told to stop before there is any."""
        with self._changed:
            while self._count and (self._bytes + size > self.limit or self._count >= self.places):
                if stop.is_set():
                    return False
                self._changed.wait(POLL_INTERVAL)
            if stop.is_set():
                return False
            self._bytes += size
            self._count += 1
            return True

    def give(self, size: int) -> None:
        """Give room back."""
        with self._changed:
            self._bytes -= size
            self._count -= 1
            self._changed.notify_all()


def default_threads(devices: Sequence[Device]) -> int:
    """Threads that read, and that write: a GPU can be fed by many, a CPU needs most of its cores itself."""
    own = all(device_type(device) == "cpu" for device in devices)
    return min(16, max(2, cpu_threads() // 4 if own else cpu_threads()))


def places_for_pictures(items: Sequence[Item], networks: Networks) -> tuple[int, ...]:
    """Choose the devices for a batch, each as often as pictures are enlarged on it at the same time."""
    dearest = max((item.memory + item.network for item in items), default=0)
    scales = {scale for item in items for scale in item.passes}
    return networks.places(scales, lambda pictures: pictures * dearest)


def room_for_pictures(items: Sequence[Item], places: int, threads: int) -> Room:
    """Make room for pictures under way: half of what the networks leave of the memory.

    Each thread may have one at hand; each place one more, and another that waits for it.
    """
    network = max((item.network for item in items), default=0) * places
    return Room(max(0, spare_memory() - network) // 2, 2 * threads + 2 * places)


def run_locally(
    items: Sequence[Item],
    work: PictureWork,
    *,
    places: Sequence[int],
    threads: int,
    room: Room,
    stop: Event,
) -> Generator[ItemEvent, None, None]:
    """Enlarge items, yielding what happens in the order it does; results wait beside their places.

    Files are read by `threads` threads and written by as many; each of the places, devices by their number,
    has a thread of its own. When stop is set, pictures that are being enlarged or written are finished, no
    more; when the generator is closed, they are dropped.
    """
    line = _Line(items, work, room, stop)
    stages = Stages()
    stages.start("emt-read", [line.read] * threads, line.opened)
    stages.start("emt-enlarge", [partial(line.enlarge, index) for index in places], line.enlarged)
    stages.start("emt-write", [line.write] * threads, line.events)
    told = time.monotonic()
    try:
        for event in line.events.polled():
            if event is None or time.monotonic() - told > POLL_INTERVAL:
                yield Tick(line.under_way())
                told = time.monotonic()
            if event is not None:
                yield event
    except BaseException:
        stop.set()
        line.dropped.set()
        stages.join()
        for event in line.events.take(len):
            if isinstance(event, Ended) and isinstance(event.outcome, Written):
                discard(event.outcome.moves)
        raise


class _Line:
    """The pipes between the stages, and what a thread of each does."""

    def __init__(self, items: Sequence[Item], work: PictureWork, room: Room, stop: Event) -> None:
        self.work, self.room, self.stop = work, room, stop
        self.items = iter(items)
        self.dropped = Event()
        self.turn = Lock()
        self.opened: Pipe[Opened] = Pipe()
        self.enlarged: Pipe[tuple[Opened, Picture, float, int]] = Pipe()
        self.events: Pipe[ItemEvent] = Pipe()
        self.shares: dict[int, tuple[int, float]] = {}  # by thread

    def under_way(self) -> float:
        """Network pixels done of the pictures being enlarged."""
        return sum(work * share for work, share in list(self.shares.values()))

    def read(self) -> None:
        """Read one picture after the other, each when there is room for it."""
        _yield_to_the_network()
        while True:
            with self.turn:  # so that a large picture waits in front, not for ever
                item = next(self.items, None)
                if item is None or not self.room.take(item.memory, self.stop):
                    return
            try:
                opened = self.work.read(item, check=item.memory > self.room.limit)
            except Exception as error:
                self._end(item, failure(error, item))
                continue
            if opened is None:
                self._end(item, None)
            else:
                self.opened.put(opened)
                del opened  # nothing is held that has no room any more

    def enlarge(self, index: int) -> None:
        """Enlarge what was read, on one device; small pictures of one size together, where that is faster."""
        for opened in self.opened:
            if (mates := self._mates(opened, index)) and self._enlarge_together([opened, *mates], index):
                del opened, mates
                continue
            for one in (opened, *mates):
                self._enlarge(one, index)
            del opened, mates, one

    def _mates(self, first: Opened, index: int) -> list[Opened]:
        """Take from the queue what can share a batch with a picture."""
        # What fails here fails again, and is told, for the first alone.
        with contextlib.suppress(Exception):
            if not self.stop.is_set():
                return self.opened.take(lambda waiting: self.work.share(first, waiting, index))
        return []

    def _enlarge_together(self, batch: list[Opened], index: int) -> bool:
        """Enlarge a batch at once; False when that failed, for whatever reason."""
        start = time.perf_counter()
        try:
            results = self.work.enlarge_together(batch, index)
        except Exception:
            return False
        seconds = (time.perf_counter() - start) / len(batch)
        for opened, result in zip(batch, results, strict=True):
            self.events.put(Started(opened.item))
            self.enlarged.put((opened, result, seconds, index))
        return True

    def _enlarge(self, opened: Opened, index: int) -> None:
        item = opened.item
        if self.stop.is_set():
            self.room.give(item.memory)
            return
        self.events.put(Started(item))
        try:
            start = time.perf_counter()
            result = self._steps(opened, index)
            seconds = time.perf_counter() - start
        except Exception as error:
            self._end(item, failure(error, item))
            return
        finally:
            self.shares.pop(threading.get_ident(), None)
        if result is None:
            self.room.give(item.memory)
        else:
            self.enlarged.put((opened, result, seconds, index))

    def write(self) -> None:
        """Write what was enlarged."""
        _yield_to_the_network()
        for opened, result, seconds, index in self.enlarged:
            try:
                outcome: Written | Failure = self.work.write(opened, result, seconds, index)
            except Exception as error:
                outcome = failure(error, opened.item)
            item = opened.item
            del opened, result
            self._end(item, outcome)

    def _steps(self, opened: Opened, index: int) -> Picture | None:
        """Enlarge step by step; None when told to drop it."""
        steps = self.work.enlarge(opened, index)
        while True:
            try:
                self.shares[threading.get_ident()] = (opened.item.work, next(steps))
            except StopIteration as end:
                picture: Picture = end.value
                return picture
            if self.dropped.is_set():
                return None

    def _end(self, item: Item, outcome: Written | Failure | None) -> None:
        self.room.give(item.memory)
        self.events.put(Ended(item, outcome))


def _yield_to_the_network() -> None:
    """Let this thread have less of the processor than the network, where the system knows how to."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 5)
