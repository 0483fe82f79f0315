"""Whether an enlargement still shows its source: reduced again, it must agree with it.

The released networks lose themselves on crisp text, single lines and noise (their logits have no scale and
grow); the answer is then another picture. Reduced by area, a sound one differs from its source at edges
only, by less than a quarter of the contrast around, and elsewhere by less than a step or two of 255.
"""

from __future__ import annotations

import cv2
import numpy as np

from emt_cli.engine.tiling import Floats

EDGE_SHARE, TOLERANCE = 0.25, 4.0
"""A pixel may differ by so much of the range of the 5x5 pixels around, and by so many of 255 beyond that."""
BLOCK, FAULTY = 32, 0.06
"""Of a block of so many pixels a side, more than this share differs: it is lost. On Set5, Set14 and Kodak24
the most is 0.047 (emt x2, picture 19's fence); text and lines that go wrong begin at 0.08."""
_ROWS = np.array((0, 6, 9, 15))
"""Of each 16 rows, those that are looked at: all phases of patterns of 2, 3, 4 and 6 rows are among them."""


class Agreement:
    """Compares an enlargement with its source (h, w, 3), 0..255, rows by rows, of several threads."""

    def __init__(self, source: Floats, scale: int) -> None:
        self.source, self.scale = source, scale
        height = len(source)
        rows = (np.arange(0, height, 16)[:, None] + _ROWS).ravel()
        self._rows = rows[rows < height]
        self._wrong: Floats = np.zeros((len(self._rows), source.shape[1]), np.float32)

    def add(self, first: int, enlarged: Floats) -> None:
        """Look at rows (n * scale, w * scale, 3), from the row first * scale on."""
        last = first + len(enlarged) // self.scale
        begin, end = np.searchsorted(self._rows, (first, last))
        if begin == end:
            return
        rows, width = self._rows[begin:end], self.source.shape[1]
        lines = ((rows - first)[:, None] * self.scale + np.arange(self.scale)).ravel()
        strips = np.ascontiguousarray(enlarged[lines])
        reduced = cv2.resize(
            np.clip(strips, 0, 255, out=strips), (width, len(rows)), interpolation=cv2.INTER_AREA
        )
        top = max(0, first - 2)
        levels = np.clip(self.source[top : last + 2], 0, 255).astype(np.uint8)
        contrast = cv2.morphologyEx(levels, cv2.MORPH_GRADIENT, np.ones((5, 5), np.uint8))[rows - top]
        excess = np.abs(np.clip(self.source[rows], 0, 255) - reduced) - EDGE_SHARE * contrast
        red, green, blue = (excess[..., colour] for colour in range(3))  # numpy is slow on short axes
        self._wrong[begin:end] = np.maximum(np.maximum(red, green), blue) > TOLERANCE

    @property
    def lost(self) -> bool:
        """Whether it is another picture than its source, now that all of it was seen."""
        count, width = self._wrong.shape
        block = min(BLOCK // 4, count), min(BLOCK, width)
        shares = cv2.boxFilter(self._wrong, -1, block[::-1], borderType=cv2.BORDER_REFLECT)
        return bool(shares.max() > FAULTY)


def disagrees(source: Floats, enlarged: Floats, scale: int) -> bool:
    """Tell whether enlarged (h * scale, w * scale, 3) is another picture than source (h, w, 3), 0..255."""
    agreement = Agreement(source, scale)
    agreement.add(0, enlarged)
    return agreement.lost
