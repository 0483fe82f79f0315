"""Cut a picture into overlapping tiles and put their enlargements together without seams.

Tile origins lie on multiples of the window size, so that a tile sees the same windows as the whole
picture. Each tile is read with a halo, and neighbours are blended over a narrow feather inside it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

FEATHER = 4
"""Input pixels on each side of a seam over which two tiles are blended; must be less than half the halo."""


@dataclass(frozen=True)
class Tile:
    """One tile of a picture: what it is to fill, and what it has to read; input pixels, ends exclusive."""

    top: int
    bottom: int
    left: int
    right: int
    read_top: int
    read_bottom: int
    read_left: int
    read_right: int

    @property
    def read(self) -> tuple[slice, slice]:
        """Rows and columns to read, halo included."""
        return slice(self.read_top, self.read_bottom), slice(self.read_left, self.read_right)


def plan_tiles(
    height: int, width: int, *, size: int, halo: int, multiple: int = 32, first_row: int = 0
) -> list[Tile]:
    """Cover rows first_row..height of a picture with tiles of at most size x size, row by row.

    Tiles of a row are of nearly equal size; a rest narrower than FEATHER joins the last tile. size, halo and
    first_row are multiples of `multiple`; a picture that fits one tile is one tile, without halo.
    """
    if size < multiple or size % multiple or halo % multiple or first_row % multiple:
        raise ValueError(f"size {size}, halo {halo}, first row {first_row}: not multiples of {multiple}")
    rows = _cut(first_row, height, size, multiple)
    columns = _cut(0, width, size, multiple)
    return [
        Tile(
            top,
            bottom,
            left,
            right,
            max(top - halo, 0),
            min(bottom + halo, height),
            max(left - halo, 0),
            min(right + halo, width),
        )
        for top, bottom in rows
        for left, right in columns
    ]


def _cut(start: int, end: int, size: int, multiple: int) -> list[tuple[int, int]]:
    count = ceil((end - start) / size)
    step = ceil((end - start) / (count * multiple)) * multiple
    starts = list(range(start, end, step))
    if len(starts) > 1 and end - starts[-1] < FEATHER:
        starts.pop()  # a seam needs its feather on both sides
    return list(zip(starts, [*starts[1:], end], strict=True))


class Mosaic:
    """Enlarged tiles, added in the order of plan_tiles, become one picture.

    Beside the picture only one seam's width of it is kept as floats: the right edge of the last tile and the
    bottom edges of the last row of tiles. Every pixel is blended as float and handed to `finish` once.
    """

    def __init__(
        self,
        picture: NDArray[np.generic],
        finish: Callable[[Floats], NDArray[np.generic]],
        *,
        scale: int,
        feather: int = FEATHER,
    ) -> None:
        self.picture = picture
        self.finish = finish
        self.scale = scale
        self.feather = feather
        seam = 2 * feather * scale
        ramp = (np.arange(seam) + 0.5) / seam
        self.rising: Floats = ramp.astype(np.float32).reshape(-1, 1, 1)
        self._above: Floats = np.empty((seam, *picture.shape[1:]), np.float32)
        self._below = np.empty_like(self._above)
        self._left: Floats = np.empty((0,), np.float32)

    def add(self, tile: Tile, pixels: Floats) -> None:
        """Place the enlargement (h, w, c) of what the tile read."""
        height, width = (side // self.scale for side in self.picture.shape[:2])
        f, s = self.feather, self.scale
        seam = 2 * f * s
        above, below = tile.top > 0, tile.bottom < height
        left, right = tile.left > 0, tile.right < width
        top, x = tile.top - f * above, tile.left - f * left
        block = pixels[
            (top - tile.read_top) * s : (tile.bottom + f * below - tile.read_top) * s,
            (x - tile.read_left) * s : (tile.right + f * right - tile.read_left) * s,
        ]
        rising, falling = self.rising, self.rising[::-1]
        if left:
            across = rising.reshape(1, -1, 1)
            block[:, :seam] = self._left + block[:, :seam] * across
        if right:
            self._left = block[:, -seam:] * falling.reshape(1, -1, 1)
            block = block[:, :-seam]
        columns = slice(x * s, x * s + block.shape[1])
        if above:
            block[:seam] = self._above[:, columns] + block[:seam] * rising
        if below:
            self._below[:, columns] = block[-seam:] * falling
            block = block[:-seam]
        # A few rows at a time: the float picture of a large tile is not copied whole again.
        for start in range(0, len(block), 64):
            rows = block[start : start + 64]
            y = top * s + start
            self.picture[y : y + len(rows), columns] = self.finish(rows)
        if not right:
            self._above, self._below = self._below, self._above
