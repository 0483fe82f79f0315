"""How wide a halo a network's tiles need, measured: a tile against the whole, at the tile's edge."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from emt_cli.engine.compiled import compiled_path, keep_compiled, read_compiled
from emt_cli.engine.tiling import FEATHER, Floats
from emt_cli.media.metrics import psnr

AGREEMENT, MARGIN = 65.0, 10.0
"""Decibels asked for in the pixels next to a seam, of any picture; what the one measured has to have more."""
WIDEST = 128
"""Widest halo tried, in input pixels; a network that sees the whole picture is not served by a wider one."""
CLOSE = 1.0
"""Where none reaches that, the narrowest halo within so many decibels of the best is taken."""
STRIP, ROWS, BEFORE, BEHIND = 16, 64, 32, 64
"""Columns next to the seam that are compared; rows of the picture; its columns before the widest halo, which
only the whole has, and behind the seam, which both have."""


@dataclass(frozen=True)
class Halo:
    """What was measured."""

    pixels: int
    decibels: float
    """Agreement at the seam."""


def measured_halo(sha256: str, multiple: int, enlarge: Callable[[Floats], Floats]) -> Halo:
    """Return the halo of a network's tiles, a multiple of `multiple`; measured once, and kept.

    enlarge: takes RGB (h, w, 3), 0..255.
    """
    path = compiled_path("halo", sha256, multiple)
    kept = read_compiled(path)
    if kept is None:
        halo = _measure(multiple, enlarge)
        keep_compiled(path, json.dumps([halo.pixels, halo.decibels]).encode())
        return halo
    pixels, decibels = json.loads(kept)
    return Halo(int(pixels), float(decibels))


def _measure(multiple: int, enlarge: Callable[[Floats], Floats]) -> Halo:
    candidates = range(multiple, max(WIDEST, multiple) + 1, multiple)
    seam = candidates[-1] + -(-BEFORE // multiple) * multiple
    rows = -(-ROWS // multiple) * multiple
    picture = _picture(rows, seam + -(-BEHIND // multiple) * multiple)
    whole = _strip(enlarge(picture), seam, picture.shape[1])
    tried = []
    for halo in candidates:
        read = picture[:, seam - halo :]
        tried.append(Halo(halo, min(99.0, psnr(_strip(enlarge(read), halo, read.shape[1]), whole))))
        if tried[-1].decibels >= AGREEMENT + MARGIN:
            return tried[-1]
    best = max(halo.decibels for halo in tried)
    return next(halo for halo in tried if halo.decibels >= best - CLOSE)


def _strip(enlarged: Floats, seam: int, width: int) -> Floats:
    """Return the columns next to the seam, those that are blended over it included."""
    scale = enlarged.shape[1] // width
    strip: Floats = np.clip(enlarged[:, (seam - FEATHER) * scale : (seam + STRIP) * scale], 0, 255)
    return strip


def _picture(height: int, width: int) -> Floats:
    """Draw what photographs and drawings have: soft shades, texture of all sizes, and hard edges."""
    random = np.random.default_rng(0)
    picture = np.full((height, width, 3), 127.5, np.float32)
    for size in (4, 8, 16, 32, 64):
        coarse = random.normal(0, 4 * size**0.5, (height // size + 2, width // size + 2, 3))
        picture += cv2.resize(coarse.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(height * width // 400):
        first, second = random.integers(0, (width, height), (2, 2)).tolist()
        colour = random.integers(0, 256, 3).tolist()
        cv2.circle(picture, first, int(random.integers(1, 9)), colour, -1)
        if random.random() < 0.2:
            cv2.line(picture, first, second, colour, int(random.integers(1, 4)), cv2.LINE_AA)
    return np.clip(picture, 0, 255)
