"""Cut a picture into overlapping tiles and put their enlargements together without seams.

Tile origins lie on multiples of the window size, so that a tile sees the same windows as the whole
picture. Each tile is read with a halo, and neighbours are blended over a narrow feather inside it. How large
tile and halo are, upscaler.py decides.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Numbers = Floats | NDArray[np.uint8]
"""Of a picture, 0..255."""

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
        self.above: Floats = np.empty((seam, *picture.shape[1:]), np.float32)
        self.below = np.empty_like(self.above)
        self.left: Floats = np.empty((0,), np.float32)

    def place(self, tile: Tile) -> Place:
        """Return where a tile's enlargement goes, after those of the tiles before it."""
        return Place(self, tile)

    def add(self, tile: Tile, pixels: Floats) -> None:
        """Place the enlargement (h, w, c) of what the tile read."""
        place = self.place(tile)
        place.add(0, pixels)
        place.close()


class Place:
    """A tile in a mosaic: takes rows of its enlargement, of several threads, in any order, more than once."""

    def __init__(self, mosaic: Mosaic, tile: Tile) -> None:
        self.mosaic, self.tile = mosaic, tile
        picture, f, s = mosaic.picture, mosaic.feather, mosaic.scale
        height, width = (side // s for side in picture.shape[:2])
        self.top = (tile.top - f * (tile.top > 0)) * s
        self.bottom = (tile.bottom + f * (tile.bottom < height)) * s
        self.begin = (tile.left - f * (tile.left > 0)) * s
        self.end = (tile.right + f * (tile.right < width)) * s
        self.last_row, self.last_column = tile.bottom == height, tile.right == width
        seam = 2 * f * s
        self.right: Floats = np.empty((0,), np.float32)
        if not self.last_column:
            self.right = np.empty((self.bottom - self.top, seam, *picture.shape[2:]), np.float32)

    def add(self, first: int, pixels: Floats) -> None:
        """Place rows (n, w, c) of the enlargement of what the tile read, from this row on; they are spent."""
        mosaic, tile = self.mosaic, self.tile
        s, seam = mosaic.scale, len(mosaic.rising)
        y = tile.read_top * s + first
        top, bottom = max(y, self.top), min(y + len(pixels), self.bottom)
        x = tile.read_left * s
        # A few rows at a time: the float picture of a large tile is not copied whole again.
        for start in range(top, bottom, 64):
            stop = min(start + 64, bottom)
            rows = pixels[start - y : stop - y, self.begin - x : self.end - x]
            rising, falling = mosaic.rising, mosaic.rising[::-1]
            if tile.left > 0:
                across = rising.reshape(1, -1, 1)
                rows[:, :seam] = mosaic.left[start - self.top : stop - self.top] + rows[:, :seam] * across
            if not self.last_column:
                across = falling.reshape(1, -1, 1)
                self.right[start - self.top : stop - self.top] = rows[:, -seam:] * across
                rows = rows[:, :-seam]
            columns = slice(self.begin, self.begin + rows.shape[1])
            if tile.top > 0 and start < self.top + seam:
                old = mosaic.above[start - self.top : min(stop - self.top, seam), columns]
                part = slice(0, len(old))
                rows[part] = old + rows[part] * rising[start - self.top :][part]
            if not self.last_row and stop > self.bottom - seam:
                kept = max(start, self.bottom - seam)
                place = slice(kept - self.bottom + seam, stop - self.bottom + seam)
                mosaic.below[place, columns] = rows[kept - start :] * falling[place]
                rows = rows[: kept - start]
            if len(rows):
                mosaic.picture[start : start + len(rows), columns] = mosaic.finish(rows)

    def close(self) -> None:
        """Go on to the next tile: all rows are there."""
        self.mosaic.left = self.right
        if self.last_column:
            self.mosaic.above, self.mosaic.below = self.mosaic.below, self.mosaic.above
