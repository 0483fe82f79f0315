"""How wide a halo a network's tiles need, measured: a corner's tile against the whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from emt_cli.engine.compiled import compiled_path, keep_compiled, read_compiled
from emt_cli.engine.tiling import FEATHER, Floats
from emt_cli.media.metrics import psnr

AGREEMENT, MARGIN = 65.0, 10.0
"""Decibels asked for in each quarter of a tile, of any picture; what the one measured has to have more."""
WIDEST = 128
"""Widest halo tried, in input pixels; a network that sees the whole picture is not served by a wider one."""
CLOSE = 1.0
"""Where none reaches that, the narrowest halo within so many decibels of the best is taken."""
TILE, BEYOND = 32, 32
"""Side of the tile that is measured; what only the whole picture has beyond its halo. In input pixels."""


@dataclass(frozen=True)
class Halo:
    """What was measured."""

    pixels: int
    decibels: float
    """Agreement in the worst quarter of the tile."""


def measured_halo(
    sha256: str, multiple: int, enlarge: Callable[[Floats], Floats], begin: Callable[[], None] = lambda: None
) -> Halo:
    """Return the halo of a network's tiles, a multiple of `multiple`; measured once, and kept.

    enlarge: takes RGB (h, w, 3), 0..255. begin: called where it is measured now.
    """
    path = compiled_path("halo", sha256, multiple)
    kept = read_compiled(path)
    if kept is None:
        begin()
        halo = _measure(multiple, enlarge)
        keep_compiled(path, json.dumps([halo.pixels, halo.decibels]).encode())
        return halo
    pixels, decibels = json.loads(kept)
    return Halo(int(pixels), float(decibels))


def _measure(multiple: int, enlarge: Callable[[Floats], Floats]) -> Halo:
    """Try halos until one serves; the first, which mostly does, on a picture no larger than needed."""
    halos = list(range(multiple, max(WIDEST, multiple) + 1, multiple))
    tried: list[Halo] = []
    for candidates in halos[:1], halos:
        tried = []
        for halo in _tried(candidates, multiple, enlarge):
            tried.append(halo)
            if halo.decibels >= AGREEMENT + MARGIN:
                return halo
    best = max(halo.decibels for halo in tried)
    return next(halo for halo in tried if halo.decibels >= best - CLOSE)


def _tried(halos: list[int], multiple: int, enlarge: Callable[[Floats], Floats]) -> Iterator[Halo]:
    """Enlarge a picture whole, and for each halo its upper right tile alone, and compare.

    That tile has all there is: two seams, where the halo ends in the picture, and two borders of the picture.
    Networks that wrap around, as some with shifted windows do, differ at the borders.
    """
    tile, beyond = (-(-side // multiple) * multiple for side in (TILE, BEYOND))
    picture = _picture(tile + halos[-1] + beyond)
    side = len(picture)
    whole = _tile(enlarge(picture), side, tile)
    for halo in halos:
        read = picture[: tile + halo, side - tile - halo :]
        alone = _tile(enlarge(read), tile + halo, tile)
        middle = len(whole) // 2
        quarters = [np.s_[rows, columns] for rows in _halves(middle) for columns in _halves(middle)]
        yield Halo(halo, min(99.0, *(psnr(alone[part], whole[part]) for part in quarters)))


def _halves(middle: int) -> tuple[slice, slice]:
    return slice(middle), slice(middle, None)


def _tile(enlarged: Floats, side: int, tile: int) -> Floats:
    """Return the upper right tile of an enlarged picture, what is blended over its seams included."""
    seen = (tile + FEATHER) * (len(enlarged) // side)
    part: Floats = np.clip(enlarged[:seen, -seen:], 0, 255)
    return part


def _picture(side: int) -> Floats:
    """Draw what photographs and drawings have: soft shades, texture of all sizes, and hard edges."""
    random = np.random.default_rng(0)
    picture = np.full((side, side, 3), 127.5, np.float32)
    for size in (4, 8, 16, 32, 64):
        coarse = random.normal(0, 4 * size**0.5, (side // size + 2, side // size + 2, 3))
        picture += cv2.resize(coarse.astype(np.float32), (side, side), interpolation=cv2.INTER_CUBIC)
    for _ in range(side * side // 400):
        first, second = random.integers(0, side, (2, 2)).tolist()
        colour = random.integers(0, 256, 3).tolist()
        cv2.circle(picture, first, int(random.integers(1, 9)), colour, -1)
        if random.random() < 0.2:
            cv2.line(picture, first, second, colour, int(random.integers(1, 4)), cv2.LINE_AA)
    return np.clip(picture, 0, 255)
