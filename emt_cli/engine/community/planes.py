"""Pixels as networks of others take them: planes of 0..1, extended to the sizes they stand."""

from __future__ import annotations

import numpy as np

from emt_cli.engine.community.network import Facts
from emt_cli.engine.tiling import Floats


def to_planes(pixels: Floats, facts: Facts) -> list[Floats]:
    """Return RGB (h, w, 3), 0..255, as inputs (1, channels, h, w), 0..1, mirrored to the right and below.

    A gray network gets each colour by itself, and a gray picture once.
    """
    height, width = pixels.shape[:2]
    rows, columns = facts.padded(height, width)
    planes = np.clip(pixels.transpose(2, 0, 1), 0, 255) / np.float32(255)
    if facts.channels == 1 and (planes[0] == planes[1]).all() and (planes[0] == planes[2]).all():
        planes = planes[:1]
    below, right = rows - height, columns - width
    mirrored = min(below, height - 1), min(right, width - 1)
    planes = np.pad(planes, ((0, 0), (0, mirrored[0]), (0, mirrored[1])), mode="reflect")
    planes = np.pad(planes, ((0, 0), (0, below - mirrored[0]), (0, right - mirrored[1])), mode="edge")
    if facts.channels == 1:
        return [np.ascontiguousarray(plane)[None, None] for plane in planes]
    return [np.ascontiguousarray(planes)[None]]


def from_planes(answers: list[Floats], height: int, width: int) -> Floats:
    """Put answers (1, channels, H, W) together: RGB (height, width, 3), 0..255, without what was added."""
    planes = np.concatenate([answer[0, :, :height, :width] for answer in answers])
    picture: Floats = np.empty((height, width, 3), np.float32)
    np.multiply(planes.transpose(1, 2, 0), np.float32(255), out=picture)
    return picture
