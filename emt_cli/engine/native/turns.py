"""Work in turns: pieces for several threads, each begun as soon as what it reads is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Condition

from emt_cli.steps import Steps

Piece = Callable[[int], None]
"""Work that gets the number of the memory it may use."""
_TELLING = 0.1
"""Seconds after which the share done is told."""


@dataclass(frozen=True)
class Turn:
    """Pieces that may begin once the first `after` of all turns are through."""

    pieces: Sequence[Piece]
    after: int
    share: float
    """Of the whole work, done when this turn is through."""


def in_turn(turns: Sequence[Turn], threads: int, pool: Executor, free: SimpleQueue[int]) -> Steps[None]:
    """Call the pieces of all turns, each as soon as its turn may begin, yielding the share done.

    threads: of the pool, that work at this at most; where it is one, the calling thread does. free: numbers
    of memory, of which each piece has one for itself. After an error, or when closed, no piece is begun.
    """
    if threads == 1:
        for turn in turns:
            for piece in turn.pieces:
                piece(0)
            yield turn.share
        return
    work = _Work(turns, pool, free)
    work.start(threads)
    try:
        while not work.wait(_TELLING):
            yield turns[work.through - 1].share if work.through else 0.0
    finally:  # pieces write into memory that goes when this is left
        work.stop()
    if work.error is not None:
        raise work.error
    yield turns[-1].share


class _Work:
    """Pieces in their order, and how far they are; threads take them."""

    def __init__(self, turns: Sequence[Turn], pool: Executor, free: SimpleQueue[int]) -> None:
        self.turns, self.pool, self.free = turns, pool, free
        self.pieces = [(number, piece) for number, turn in enumerate(turns) for piece in turn.pieces]
        self.left = [len(turn.pieces) for turn in turns]
        self.begun = self.through = 0
        self.at_work = self.waiting = 0  # threads
        self.error: BaseException | None = None
        self.changed = Condition()

    def start(self, threads: int) -> None:
        """Have so many threads take pieces."""
        with self.changed:
            self.at_work += threads
        for _ in range(threads):
            self.pool.submit(self._take)

    def wait(self, seconds: float) -> bool:
        """Wait for the end; False if it has not come."""
        with self.changed:
            return self.changed.wait_for(lambda: not self.at_work, seconds)

    def stop(self) -> None:
        """Begin nothing more, and wait for what was begun."""
        with self.changed:
            self.begun = len(self.pieces)
            self.changed.wait_for(lambda: not self.at_work)

    def _take(self) -> None:
        """Call pieces; where the next one has to wait, let the thread go to other pictures."""
        while True:
            with self.changed:
                if not self._ready():
                    self.waiting += self.begun < len(self.pieces)
                    self.at_work -= 1
                    if not self.at_work:
                        self.changed.notify_all()
                    return
                number, piece = self.pieces[self.begun]
                self.begun += 1
            slot = self.free.get()
            try:
                piece(slot)
            except BaseException as error:
                with self.changed:
                    self.error = self.error or error
                    self.begun = len(self.pieces)
            finally:
                self.free.put(slot)
            with self.changed:
                self.left[number] -= 1
                while self.through < len(self.turns) and not self.left[self.through]:
                    self.through += 1
                again = self.waiting if self._ready() else 0
                self.waiting -= again
            if again:
                self.start(again)

    def _ready(self) -> bool:
        """Tell whether there is a next piece, and it may begin."""
        if self.begun == len(self.pieces):
            return False
        return self.through >= self.turns[self.pieces[self.begun][0]].after
