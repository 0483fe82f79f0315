"""Whether an enlargement still shows its source: reduced again, it must agree with it.

The released networks lose themselves on crisp text, single lines and noise (their logits have no scale and
grow); the answer is then another picture. Reduced by area, a sound one differs from its source at edges
only, by less than a quarter of the contrast around, and elsewhere by less than a step or two of 255.
"""

from __future__ import annotations

from functools import reduce

import numpy as np
from numpy.typing import NDArray

from emt_cli.engine.tiling import Floats, Numbers

EDGE_SHARE, TOLERANCE = 0.25, 4.0
"""A pixel may differ by so much of the range of the 5x5 pixels around, and by so many of 255 beyond that."""
SMOOTHING = {"emt-art": 1.0}
"""The edge share of models, by name, that make jagged edges smooth: reduced, these are others, and rightly.

Letters, lines and dots without anti-aliasing differ in up to 0.43 of a block at a quarter. A network that
loses itself on them is told by the blank around them as well.
"""
BLOCK, FAULTY = 32, 0.06
"""Of a block of so many pixels a side, more than this share differs: it is lost. On Set5, Set14 and Kodak24
the most is 0.047 (emt x2, picture 19's fence); text and lines that go wrong begin at 0.08."""
_ROWS = np.array((0, 6, 9, 15))
"""Of each 16 rows, those that are looked at: all phases of patterns of 2, 3, 4 and 6 rows are among them."""


class Agreement:
    """Compares an enlargement with its source (h, w, 3), 0..255, rows by rows, of several threads.

    edge_share: instead of EDGE_SHARE, for models of SMOOTHING.
    """

    def __init__(self, source: Numbers, scale: int, edge_share: float = EDGE_SHARE) -> None:
        self.source, self.scale, self.edge_share = source, scale, edge_share
        height = len(source)
        rows = (np.arange(0, height, 16)[:, None] + _ROWS).ravel()
        self._rows = rows[rows < height]
        self._wrong = np.zeros((len(self._rows), source.shape[1]), np.bool_)

    def add(self, first: int, enlarged: Floats) -> None:
        """Look at rows (n * scale, w * scale, 3), from the row first * scale on."""
        last = first + len(enlarged) // self.scale
        begin, end = np.searchsorted(self._rows, (first, last))
        if begin == end:
            return
        rows, scale = self._rows[begin:end], self.scale
        strips = enlarged[(rows[:, None] - first) * scale + np.arange(scale)]
        sums = np.clip(strips, 0, 255, out=strips).sum(axis=1).reshape(len(rows), -1, scale, 3)
        source = np.clip(self.source[rows], 0, 255)
        tolerance = TOLERANCE + self.edge_share * self._contrast(rows)
        wrong = self._wrong[begin:end]
        wrong[:] = False
        for colour in range(3):  # one after the other: numpy is slow on short axes
            reduced = reduce(np.add, (sums[:, :, column, colour] for column in range(scale))) / scale**2
            wrong |= np.abs(source[..., colour] - reduced) > tolerance

    def _contrast(self, rows: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the range of the 5x5 pixels around each of some rows, the widest of the colours' ranges.

        Where red ends on white, red is the same on both sides, and yet differs a little.
        """
        top, width = max(0, rows[0] - 2), self.source.shape[1]
        source = self.source[top : rows[-1] + 3]
        levels = np.empty((len(source), width + 4, 3), np.uint8)
        levels[:, 2:-2] = np.clip(source, 0, 255)
        levels[:, :2], levels[:, -2:] = levels[:, 2:3], levels[:, -3:-2]
        near = levels[np.clip(rows[:, None] - top + np.arange(-2, 3), 0, len(levels) - 1)]
        high, low = near.max(axis=1), near.min(axis=1)
        columns = [slice(left, left + width) for left in range(5)]
        highest = reduce(np.maximum, (high[:, part] for part in columns))
        lowest = reduce(np.minimum, (low[:, part] for part in columns))
        ranges = np.subtract(highest, lowest, dtype=np.float32)
        contrast: NDArray[np.float32] = reduce(np.maximum, (ranges[..., colour] for colour in range(3)))
        return contrast

    @property
    def lost(self) -> bool:
        """Whether it is another picture than its source, now that all of it was seen."""
        count, width = self._wrong.shape
        tall, wide = min(BLOCK // 4, count), min(BLOCK, width)
        around = ((tall // 2 + 1, (tall - 1) // 2), (wide // 2 + 1, (wide - 1) // 2))
        # Sums over all blocks are differences of sums from the corner on.
        sums = np.pad(self._wrong, around, mode="symmetric").cumsum(0, np.int32).cumsum(1, np.int32)
        blocks = sums[tall:, wide:] - sums[:-tall, wide:] - sums[tall:, :-wide] + sums[:-tall, :-wide]
        return bool(blocks.max() > FAULTY * tall * wide)


def disagrees(source: Floats, enlarged: Floats, scale: int, edge_share: float = EDGE_SHARE) -> bool:
    """Tell whether enlarged (h * scale, w * scale, 3) is another picture than source (h, w, 3), 0..255."""
    agreement = Agreement(source, scale, edge_share)
    agreement.add(0, enlarged)
    return agreement.lost
