"""Pictures as arrays of any sample type, and as the floats that runners compute with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from emt_cli.engine.tiling import Floats, Tile

Pixels: TypeAlias = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]
"""RGB (h, w, 3) or gray (h, w); uint8, uint16, or float32 with white at 1."""

WHITE = {"uint8": 1.0, "uint16": 257.0, "float32": 1 / 255}
"""What a picture's own numbers are, for each step of the network's 0..255."""


def with_border(image: Pixels, tile: Tile, border: int) -> Pixels:
    """Return what a tile reads and border pixels more on each side, mirrored where the picture ends.

    All tiles get them on all sides, so that their windows lie as those of the whole picture.
    """
    height, width = image.shape[:2]
    top, bottom = tile.read_top - border, tile.read_bottom + border
    left, right = tile.read_left - border, tile.read_right + border
    inside = image[max(top, 0) : min(bottom, height), max(left, 0) : min(right, width)]
    pads = ((max(-top, 0), max(bottom - height, 0)), (max(-left, 0), max(right - width, 0)))
    if not any(map(any, pads)):
        return inside
    padded: Any = np.pad(inside, (*pads, *((0, 0),) * (image.ndim - 2)), mode="reflect")
    region: Pixels = padded
    return region


def check(image: Pixels) -> None:
    """Raise ValueError for what is no picture."""
    plane = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (3, 4))
    if image.dtype.name not in WHITE or not plane or 0 in image.shape:
        raise ValueError(
            "a picture is RGB (h, w, 3), RGBA (h, w, 4) or gray (h, w) in uint8, uint16 or float32"
            f" (white is 1), not {image.dtype.name} {image.shape}"
        )
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise ValueError("the picture holds NaN or infinite values")


def floats(image: Pixels) -> Floats:
    """Return RGB (h, w, 3), 0..255, of any sample type, or of a gray plane."""
    pixels = image.astype(np.float32)
    if WHITE[image.dtype.name] != 1:
        pixels /= np.float32(WHITE[image.dtype.name])
    return np.repeat(pixels[..., None], 3, axis=2) if image.ndim == 2 else pixels


def finisher(kind: np.dtype[Any]) -> Callable[[Floats], Pixels]:
    """Return the one rounding: from floats 0..255, which are spent, to the picture's own type."""
    white = np.float32(WHITE[kind.name])
    if kind == np.float32:
        return lambda rows: rows * white
    top = np.float32(np.iinfo(kind).max)

    def finish(rows: Floats) -> Pixels:
        if white != 1:
            rows *= white
        np.clip(rows, 0, top, out=rows)
        pixels: Pixels = np.rint(rows, out=rows).astype(kind)
        return pixels

    return finish
