"""In which order the windows of an attention layer are computed, so that it needs rows of answers, not a map.

Windows go down the picture in bands of rows. As soon as all windows over a row are through, its answers are
projected onto the features in their place: nobody reads those any more. A ring of rows holds the answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from emt_cli.model.config import Pair

NOWHERE = -(1 << 40)


@dataclass(frozen=True)
class Band:
    """Rows that are through once the windows of this band are."""

    top: int
    bottom: int
    windows: list[tuple[int, int]]
    """First and last (exclusive) row of windows, of each shape."""


class Order:
    """The windows of all shapes of an attention layer over a picture, rolled and reflected as SWSA does.

    least: rows of a band, but that whole windows fit in.
    """

    def __init__(
        self, windows: Sequence[Pair], rolls: Sequence[Pair], height: int, width: int, *, least: int
    ) -> None:
        self.height = height
        tallest = max(tall for tall, _ in windows)
        self.bands = _bands(windows, rolls, height, ceil(least / tallest) * tallest)
        lengths = [height + -height % tall for tall, _ in windows]
        # Rows of the bottom that the first windows, rolled, reach: their answers wait for the last band.
        self.early = height
        if len(self.bands) > 1:
            starts = [length - roll for length, (roll, _) in zip(lengths, rolls, strict=True)]
            self.early = min(height, *starts)
        ends = [0, *(band.bottom for band in self.bands)]
        waiting = [
            min(end + tallest, height) - ends[max(0, index - 2)] for index, end in enumerate(ends) if index
        ]
        self.ring = min(max(waiting), self.early)
        """Rows of answers that wait at a time, beside those of the bottom."""
        self.shapes = [Shape(window, roll, self, width) for window, roll in zip(windows, rolls, strict=True)]

    @property
    def rows(self) -> int:
        """Rows of memory for answers."""
        return self.ring + self.height - self.early

    def slot(self, row: int) -> int:
        """Return the row of memory where a row's answers wait."""
        return row % self.ring if row < self.early else self.ring + row - self.early

    def runs(self, top: int, bottom: int, count: int) -> Iterator[tuple[int, int]]:
        """Cut rows into about `count` parts whose answers lie in rows of memory next to each other."""
        step = max(1, ceil((bottom - top) / count))
        while top < bottom:
            end = min(top + step, bottom)
            if top < self.early:
                end = min(end, self.early, (top // self.ring + 1) * self.ring)
            yield top, end
            top = end


class Shape:
    """Which rows and columns the windows of one shape read, and where their answers go; below 0: nowhere."""

    def __init__(self, window: Pair, roll: Pair, order: Order, width: int) -> None:
        height = order.height
        rows, y = _places(window[0], height, roll[0])
        columns, x = _places(window[1], width, roll[1])
        slots = [order.slot(row) if row < height else NOWHERE for row in y.tolist()]
        self.across = len(columns) // window[1]
        self.arrays: list[NDArray[np.int64]] = [
            np.ascontiguousarray(array, np.int64)
            for array in (rows, columns, slots, np.where(x < width, x, NOWHERE))
        ]
        """Rows read, columns read, rows of answers, columns of answers."""


def _places(window: int, length: int, roll: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return what is read at each place of the windows along an axis, and whose answer that is."""
    place = np.roll(np.arange(length + -length % window), roll)
    return np.where(place < length, place, 2 * (length - 1) - place), place


def _bands(windows: Sequence[Pair], rolls: Sequence[Pair], height: int, step: int) -> list[Band]:
    """Cut a picture into bands; the last one holds all that windows beyond the bottom reflect."""
    tallest = max(tall for tall, _ in windows)
    ends = [*range(step, height - max(step, tallest) + 1, step), height]
    if any(not 0 <= roll < tall for (tall, _), (roll, _) in zip(windows, rolls, strict=True)):
        ends = [height]  # some windows would read rows of the top at the bottom
    counts = [ceil(height / tall) for tall, _ in windows]
    bands, top, first = [], 0, [0] * len(windows)
    for bottom in ends:
        last = [
            count if bottom == height else ceil((bottom + roll) / tall)
            for (tall, _), (roll, _), count in zip(windows, rolls, counts, strict=True)
        ]
        bands.append(Band(top, bottom, list(zip(first, last, strict=True))))
        top, first = bottom, last
    return bands
