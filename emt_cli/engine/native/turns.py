"""Work in turns: pieces for several threads, each begun as soon as what it reads is there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from threading import Condition

from emt_cli.steps import Steps

Piece = Callable[[int], None]
"""Work that gets the number of the memory it may use."""


@dataclass(frozen=True)
class Turn:
    """Pieces that may begin once the first `after` of all turns are through."""

    pieces: Sequence[Piece]
    after: int
    share: float
    """Of the whole work, done when this turn is through."""


ShareOut = Callable[[Callable[[int], None], int], Steps[None]]
"""Does pieces of work, 0 to count - 1, begun in this order, on several threads; yields meanwhile."""


def in_turn(turns: Sequence[Turn], share_out: ShareOut, free: SimpleQueue[int]) -> Steps[None]:
    """Call the pieces of all turns, each as soon as its turn may begin, yielding the share done.

    free: numbers of memory, of which each piece has one for itself.
    """
    left = [len(turn.pieces) for turn in turns]
    through, changed = 0, Condition()

    def call(number: int, piece: Piece) -> None:
        nonlocal through
        with changed:  # the pieces waited for were begun before this one
            changed.wait_for(lambda: through >= turns[number].after)
        slot = free.get()
        try:
            piece(slot)
        finally:
            free.put(slot)
            with changed:
                left[number] -= 1
                while through < len(turns) and not left[through]:
                    through += 1
                changed.notify_all()

    calls = [partial(call, number, piece) for number, turn in enumerate(turns) for piece in turn.pieces]
    for _ in share_out(lambda index: calls[index](), len(calls)):
        yield turns[through - 1].share if through else 0.0
